//! The second step: completes the workflow. Its output is the workflow's.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::step::StepEvent;
use std::convert::Infallible;

/// The output of the workflow.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Completed {
    /// When the last step was done.
    completed_at: Timestamp,
    /// The event that the first step prepared.
    event: Box<RawValue>,
}

/// Closes the workflow with the prepared event and the time at which all was done.
///
/// # Errors
/// None: the event is passed on as it is.
pub async fn complete(event: StepEvent<Box<RawValue>>) -> Result<Completed, Infallible> {
    Ok(Completed { completed_at: Timestamp::now(), event: event.input })
}
