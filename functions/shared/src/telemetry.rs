//! The log: one JSON object a line, on standard output, where Lambda collects it.

use lambda_runtime::Error;
use std::{future::Future, process::ExitCode};
use tracing::{Span, error_span};
use tracing_subscriber::EnvFilter;

/// Runs a function's process: sets up the log, then runs `function`, whose errors are those of init.
///
/// An error ends the process with exit code 1, which Lambda reports as a failed init; the log says why.
pub fn run(function: impl Future<Output = Result<(), Error>>) -> ExitCode {
    init();
    // One thread: a function's environment handles one event at a time, and has less than a core to do it with.
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
    let levels = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_from_env("AWS_LAMBDA_LOG_LEVEL"))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_env_filter(levels).init();
    // The message of a panic can quote a payload, so the log has its place alone; lambda_runtime catches the panic
    // and answers with the message.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "panicked");
    }));
}
