//! What every step is made with: its event, and all that is the same for each of them. A step itself is one function
//! from a [`StepEvent`] to an output or an error.

use crate::{WorkflowId, deadline::before_deadline, telemetry};
use futures_util::FutureExt;
use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, run_concurrent, service_fn};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::{panic::AssertUnwindSafe, process::ExitCode};
use tracing::{Instrument, error};

/// The event of a step's function: the `Payload` that every task state of the definition builds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepEvent<I> {
    /// The workflow that the step belongs to. The same on every attempt: what a step does elsewhere can be told by it
    /// from what it has done before.
    pub workflow_id: WorkflowId,
    /// How often the state was tried before, since it was entered: 0 for the first attempt.
    #[serde(default)]
    pub attempt: u32,
    /// The output of the state before, or what was posted for the first.
    pub input: I,
}

/// The errors that any step may end with, beside its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The event does not have the fields that the step takes.
    // serde's own message can quote the input.
    #[error("the event does not have the fields that the step takes (line {line}, column {column})")]
    InvalidInput {
        /// Where in the event, from 1.
        line: usize,
        /// Where in the line, from 1.
        column: usize,
    },
    /// The function's time was nearly over.
    #[error("the step was not done before its function's time was over: raise Timeout, or let it do less")]
    Timeout,
    /// The step has a fault.
    #[error("the step panicked: the function's log says where")]
    Panicked,
}

impl StepError {
    /// Of the names, those that another attempt may help; the definition's `Retry` lists them.
    pub const RETRYABLE: &[&str] = &["Task.Timeout"];

    /// The `errorType` that the state machine sees.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput { .. } => "Task.InvalidInput",
            Self::Timeout => "Task.Timeout",
            Self::Panicked => "Task.Panicked",
        }
    }
}

impl From<StepError> for Diagnostic {
    fn from(error: StepError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}

/// Runs the process of a function whose whole work is one step.
///
/// `init` runs once, before the first event, and gives the step; what it fails on ends the process. The step's error
/// becomes the error that the state machine sees, under the `error_type` of its [`Diagnostic`].
pub fn run<I, O, E, S, F>(init: impl AsyncFnOnce() -> Result<S, Error>) -> ExitCode
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    E: Into<Diagnostic> + Send + 'static,
    S: Fn(StepEvent<I>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<O, E>> + Send,
{
    telemetry::run(async {
        let step = init().await?;
        run_concurrent(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
            let step = step.clone();
            async move { handle(&step, &event.payload, &event.context).await }
        }))
        .await
    })
}

/// Answers one event with `step`: what [`run`] does for each.
///
/// # Errors
/// The step's own, or a [`StepError`].
pub async fn handle<I, O, E, F>(
    step: impl Fn(StepEvent<I>) -> F,
    event: &RawValue,
    context: &Context,
) -> Result<O, Diagnostic>
where
    I: DeserializeOwned,
    E: Into<Diagnostic>,
    F: Future<Output = Result<O, E>>,
{
    // Read here and not by the runtime, so that an input that does not fit has a name of its own.
    let event: StepEvent<I> = serde_json::from_str(event.get())
        .map_err(|error| StepError::InvalidInput { line: error.line(), column: error.column() })?;
    let span = telemetry::workflow_span(&event.workflow_id.to_string());
    // A block, so that a panic before the step's first await is caught as well.
    let work = AssertUnwindSafe(async { step(event).await.map_err(Into::into) }).catch_unwind();
    let outcome = before_deadline(context, work).instrument(span.clone()).await;
    let outcome =
        outcome.map_or(Err(StepError::Timeout.into()), |done| done.unwrap_or(Err(StepError::Panicked.into())));
    outcome.inspect_err(|Diagnostic { error_type, .. }| span.in_scope(|| error!(error = error_type, "failed")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    const EVENT: &str =
        r#"{"workflowId":"019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d","attempt":2,"input":{"secret":"hunter2"}}"#;

    /// What `step` makes of the event, within a second.
    async fn outcome<I: DeserializeOwned, O, F: Future<Output = Result<O, Diagnostic>>>(
        step: impl Fn(StepEvent<I>) -> F,
    ) -> Result<O, Diagnostic> {
        let deadline = SystemTime::now() + Duration::from_secs(1);
        let millis = deadline.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
        let mut context = Context::default();
        context.deadline = u64::try_from(millis).expect("before the year 500 million");
        let event = RawValue::from_string(EVENT.to_owned()).expect("JSON");
        let outcome = handle(step, &event, &context).await;
        assert!(SystemTime::now() < deadline);
        outcome
    }

    async fn error<I: DeserializeOwned, F: Future<Output = Result<(), Diagnostic>>>(
        step: impl Fn(StepEvent<I>) -> F,
    ) -> Diagnostic {
        let error = outcome(step).await.expect_err("an error");
        assert!(!error.error_message.contains("hunter2"), "{}", error.error_message);
        error
    }

    #[tokio::test]
    async fn a_step_gets_its_input_and_which_attempt_it_is() {
        let step = async |event: StepEvent<serde_json::Value>| Ok((event.attempt, event.input["secret"].to_string()));
        assert_eq!(outcome(step).await.expect("an output"), (2, r#""hunter2""#.to_owned()));
    }

    #[tokio::test]
    async fn whatever_goes_wrong_has_a_name_of_its_own() {
        let own = || Diagnostic { error_type: "My.Error".to_owned(), error_message: "no".to_owned() };
        assert_eq!(error(async |_: StepEvent<serde_json::Value>| Err(own())).await.error_type, "My.Error");
        assert_eq!(error(async |_: StepEvent<String>| Ok(())).await.error_type, "Task.InvalidInput");
        let slow = async |_: StepEvent<serde_json::Value>| std::future::pending().await;
        assert_eq!(error(slow).await.error_type, "Task.Timeout");
        let late = async |event: StepEvent<serde_json::Value>| panic!("{}", event.input);
        assert_eq!(error(late).await.error_type, "Task.Panicked");
        #[allow(clippy::unused_unit)] // the type of what is never returned
        let at_once = |event: StepEvent<serde_json::Value>| -> std::future::Ready<Result<(), Diagnostic>> {
            panic!("{}", event.input)
        };
        assert_eq!(error(at_once).await.error_type, "Task.Panicked");
    }
}
