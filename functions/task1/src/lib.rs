//! The first step: prepares what was posted as a CloudEvents 1.0 event, so that whatever comes after it, here or
//! elsewhere, knows what it is, whose it is and when it came.

mod input_schema;

pub use input_schema::{InputSchema, InvalidSchema};

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::{
    WorkflowId,
    settings::{self, SettingError},
    step::StepEvent,
};
use std::time::SystemTime;

/// How the step is set up, once for all events.
#[derive(Debug)]
pub struct Preparation {
    source: String,
    r#type: String,
    input_schema: Option<InputSchema>,
}

/// A CloudEvents 1.0 event in structured JSON
/// (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>).
#[derive(Debug, Serialize)]
pub struct CloudEvent<'a> {
    specversion: &'static str,
    id: WorkflowId,
    source: &'a str,
    r#type: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    data: Box<RawValue>,
}

/// Why there is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The payload breaks the input schema. It holds where and why, and no value.
    #[error("the payload does not fit the input schema: {0}")]
    InvalidPayload(String),
}

impl PrepareError {
    /// Of the names, those that another attempt may help: a payload stays what it is.
    pub const RETRYABLE: &[&str] = &[];

    /// The `errorType` that the state machine sees.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidPayload(_) => "Prepare.InvalidPayload",
        }
    }
}

impl From<PrepareError> for Diagnostic {
    fn from(error: PrepareError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}

impl Preparation {
    /// Reads the settings through `variable`; `input_schema` is what payloads have to fit.
    ///
    /// # Errors
    /// A variable is malformed.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        input_schema: Option<InputSchema>,
    ) -> Result<Self, SettingError> {
        let (source, r#type) = (settings::event_source(&variable)?, settings::event_type(&variable)?);
        Ok(Self { source, r#type, input_schema })
    }

    /// Makes the event: the workflow id is its `id`, the payload its `data`, byte for byte as it came to this step, and its `time` is that of the POST. Another attempt makes the same event, unless an idempotency key
    /// determined the id: such an id tells no time, and the event has that of the attempt.
    ///
    /// # Errors
    /// The payload does not fit the input schema.
    pub async fn prepare(&self, event: StepEvent<Box<RawValue>>) -> Result<CloudEvent<'_>, PrepareError> {
        if let Some(schema) = &self.input_schema {
            schema.check(&event.input)?;
        }
        let time = event.workflow_id.minted_at().unwrap_or_else(SystemTime::now);
        Ok(CloudEvent {
            specversion: "1.0",
            id: event.workflow_id,
            source: &self.source,
            r#type: &self.r#type,
            // What a workflow id can hold as a time, a timestamp can hold too.
            time: Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH),
            datacontenttype: "application/json",
            data: event.input,
        })
    }
}
