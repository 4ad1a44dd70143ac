//! What every step is made with: its event, and the way it runs.

use crate::{WorkflowId, telemetry};
use lambda_runtime::{Diagnostic, LambdaEvent, run_concurrent, service_fn};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::process::ExitCode;
use tracing::{Instrument, error};

/// The event of a step's function: the `Payload` that every task state of the definition builds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepEvent<I> {
    /// The workflow that the step belongs to.
    pub workflow_id: WorkflowId,
    /// The output of the state before, or what was posted for the first.
    pub input: I,
}

/// Runs the process of a function whose whole work is `step`.
///
/// The step's error becomes the error that the state machine sees, under the `error_type` of its [`Diagnostic`].
pub fn run<I, O, E, S, F>(step: S) -> ExitCode
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    E: Into<Diagnostic> + 'static,
    S: Fn(StepEvent<I>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<O, E>> + Send,
{
    telemetry::run(run_concurrent(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let step = step.clone();
        async move {
            let event = read(&event.payload)?;
            let span = telemetry::workflow_span(&event.workflow_id.to_string());
            let outcome = step(event).instrument(span.clone()).await.map_err(Into::into);
            outcome.inspect_err(|Diagnostic { error_type, .. }| span.in_scope(|| error!(error = error_type, "failed")))
        }
    })))
}

/// Read here and not by the runtime, so that an input that does not fit has a name of its own in the state machine.
fn read<I: DeserializeOwned>(event: &RawValue) -> Result<StepEvent<I>, Diagnostic> {
    serde_json::from_str(event.get()).map_err(|error| Diagnostic {
        error_type: "Task.InvalidInput".to_owned(),
        // serde's own message can quote the input.
        error_message: format!(
            "the event does not have the fields that the step takes (line {}, column {})",
            error.line(),
            error.column()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_does_not_fit_is_named_and_not_quoted() {
        let event = r#"{"workflowId":"019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d","input":"secret"}"#;
        let event = RawValue::from_string(event.to_owned()).expect("JSON");
        assert_eq!(read::<String>(&event).expect("a string").input, "secret");
        let error = read::<u8>(&event).expect_err("no number");
        assert_eq!(error.error_type, "Task.InvalidInput");
        assert!(!error.error_message.contains("secret"), "{}", error.error_message);
    }
}
