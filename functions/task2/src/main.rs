//! The wiring of the second step.

use shared::{settings, step};
use std::process::ExitCode;
use task2::Delivery;

fn main() -> ExitCode {
    step::run(async || {
        // It serves every event, until the process ends.
        let delivery: &'static Delivery = Box::leak(Box::new(Delivery::read(settings::from_process)?));
        delivery.connect().await;
        Ok(|event| delivery.deliver(event))
    })
}
