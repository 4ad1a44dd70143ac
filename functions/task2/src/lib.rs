//! The second step: delivers the event to the operator's endpoint. Its output is the workflow's.

mod sink;

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::{
    WorkflowId,
    metrics::Metric,
    settings::{SINK_URL, SettingError},
    step::StepEvent,
};
use sink::Sink;

/// How the step is set up, once for all events.
#[derive(Debug)]
pub struct Delivery {
    sink: Option<Sink>,
}

/// The output of the workflow.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// The event itself, where there is no sink.
    Event(Box<RawValue>),
    /// What became of the event.
    Delivered(Delivered),
}

/// A delivery that the sink took.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// The `id` of the event.
    event_id: WorkflowId,
    /// The sink's host, and its port where it is not the scheme's own.
    sink: String,
    /// The HTTP status that it answered.
    status: u16,
    /// When it had answered.
    delivered_at: Timestamp,
    /// How many attempts it took since the state was entered.
    attempts: u32,
}

/// Why an event was not delivered. The messages name the sink's host, and nothing of the event, the URL's path or the
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The sink cannot take the event now: another attempt may help.
    #[error("{sink} {reason}")]
    Unavailable {
        /// The sink's host.
        sink: String,
        /// What it did.
        reason: String,
    },
    /// The sink does not want the event: correct the sink, or `SINK_URL`, and redrive the workflow.
    #[error("{sink} refused the event with status {status}: correct that and redrive the workflow")]
    Refused {
        /// The sink's host.
        sink: String,
        /// The HTTP status that it answered.
        status: u16,
    },
}

impl DeliveryError {
    /// Of the names, those that another attempt may help; the definition's `Retry` lists them.
    pub const RETRYABLE: &[&str] = &["Delivery.Unavailable"];

    /// The `errorType` that the state machine sees.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "Delivery.Unavailable",
            Self::Refused { .. } => "Delivery.Refused",
        }
    }
}

impl From<DeliveryError> for Diagnostic {
    fn from(error: DeliveryError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}

impl Delivery {
    /// Reads the settings through `variable`.
    ///
    /// # Errors
    /// A variable is malformed, or there is a sink and no secret.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let url = variable(SINK_URL).filter(|url| !url.is_empty());
        let sink = url.map(|url| Sink::read(&url, variable)).transpose()?;
        Ok(Self { sink })
    }

    /// Opens the connection to the sink, so that the first event does not wait for it.
    pub async fn connect(&self) {
        if let Some(sink) = &self.sink {
            sink.connect().await;
        }
    }

    /// Delivers the event, or passes it on where there is no sink.
    ///
    /// # Errors
    /// The sink did not take it.
    pub async fn deliver(&self, event: StepEvent<Box<RawValue>>) -> Result<Output, DeliveryError> {
        let Some(sink) = &self.sink else { return Ok(Output::Event(event.input)) };
        let outcome = sink.post(event.workflow_id, event.input).await;
        let metric = match &outcome {
            Ok(_) => Metric::DeliveriesAccepted,
            Err(DeliveryError::Unavailable { .. }) => Metric::DeliveriesUnavailable,
            Err(DeliveryError::Refused { .. }) => Metric::DeliveriesRefused,
        };
        metric.count();
        let status = outcome?;
        Ok(Output::Delivered(Delivered {
            event_id: event.workflow_id,
            sink: sink.host().to_owned(),
            status,
            delivered_at: Timestamp::now(),
            attempts: event.attempt.saturating_add(1),
        }))
    }
}
