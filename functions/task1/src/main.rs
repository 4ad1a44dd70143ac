//! The wiring of the first step.

use shared::{settings, step};
use std::process::ExitCode;
use task1::{InputSchema, Preparation};

fn main() -> ExitCode {
    step::run(async || {
        let preparation = Preparation::read(settings::from_process, InputSchema::packaged()?)?;
        // It serves every event, until the process ends.
        let preparation: &'static Preparation = Box::leak(Box::new(preparation));
        Ok(|event| preparation.prepare(event))
    })
}
