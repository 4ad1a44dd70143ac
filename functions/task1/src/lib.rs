//! The first step: prepares what was posted as a CloudEvents 1.0 event, so that whatever comes after it, here or
//! elsewhere, knows what it is, whose it is and when it came.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::{WorkflowId, step::StepEvent};
use std::convert::Infallible;

/// A CloudEvents 1.0 event in structured JSON
/// (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>).
#[derive(Debug, Serialize)]
pub struct CloudEvent {
    specversion: &'static str,
    id: WorkflowId,
    source: &'static str,
    r#type: &'static str,
    time: Timestamp,
    datacontenttype: &'static str,
    data: Box<RawValue>,
}

/// Makes the event: the workflow id is its `id`, the posted JSON its `data`, byte for byte as it came to this step.
///
/// # Errors
/// None: whatever is JSON can be an event's data.
pub async fn prepare(event: StepEvent<Box<RawValue>>) -> Result<CloudEvent, Infallible> {
    Ok(CloudEvent {
        specversion: "1.0",
        id: event.workflow_id,
        source: "/trigger-workflow",
        r#type: "workflow.triggered",
        time: Timestamp::now(),
        datacontenttype: "application/json",
        data: event.input,
    })
}
