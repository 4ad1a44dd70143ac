//! The log: one JSON object a line, on standard output, where Lambda collects it.

use crate::settings;
use lambda_runtime::Error;
use std::{future::Future, process::ExitCode};
use tracing::{Span, error_span};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    prelude::*,
};

/// Runs a function's process: sets up the log, then runs `function`, whose errors are those of init.
///
/// An error ends the process with exit code 1, which Lambda reports as a failed init; the log says why.
pub fn run(function: impl Future<Output = Result<(), Error>>) -> ExitCode {
    init();
    // One thread: most environments handle one event at a time, with less than a core to do it. Those that are given
    // several (AWS_LAMBDA_MAX_CONCURRENCY) wait for others' answers side by side.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::from)
        .and_then(|runtime| runtime.block_on(function));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the function cannot start");
            ExitCode::FAILURE
        }
    }
}

/// The span for all that is done for one workflow, so that each of its log lines carries the id. It is of level
/// error because a filter above a span's level takes the span, and so the id, off the lines that remain.
#[must_use]
pub fn workflow_span(id: &str) -> Span {
    error_span!("workflow", workflowId = id)
}

fn init() {
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false);
    log.with_max_level(LevelFilter::TRACE).finish().with(levels(settings::from_process)).init();
    // The message of a panic can quote a payload, so the log has its place alone; lambda_runtime catches the panic
    // and answers with the message.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "panicked");
    }));
}

/// What is logged: as `RUST_LOG` says (`warn,trigger=info`), or else from Lambda's own level on, or else from `info` on.
/// The level of a crate is all that can be set: filters on spans and fields take a quarter of a megabyte of code.
fn levels(variable: impl Fn(&str) -> Option<String>) -> Targets {
    let own = variable("RUST_LOG").and_then(|levels| levels.parse().ok());
    own.unwrap_or_else(|| {
        // FATAL is the one level of Lambda's that is none here.
        let level = variable("AWS_LAMBDA_LOG_LEVEL").map(|level| level.parse().unwrap_or(LevelFilter::ERROR));
        Targets::new().with_default(level.unwrap_or(LevelFilter::INFO))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn the_level_is_that_of_the_variables() {
        for (own, lambda, level) in [
            (None, None, LevelFilter::INFO),
            (None, Some("DEBUG"), LevelFilter::DEBUG),
            (None, Some("FATAL"), LevelFilter::ERROR),
            (Some("warn"), Some("DEBUG"), LevelFilter::WARN),
            (Some("off,trigger=debug"), None, LevelFilter::DEBUG),
            (Some("=="), None, LevelFilter::INFO),
        ] {
            let levels = levels(|name| if name == "RUST_LOG" { own } else { lambda }.map(str::to_owned));
            for of in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG] {
                assert_eq!(levels.would_enable("trigger", &of), of <= level, "{own:?}, {lambda:?}, {of}");
            }
        }
    }
}
