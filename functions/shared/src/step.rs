//! What every step is made with: its event, and all that is the same for each of them. A step itself is one function
//! from a [`StepEvent`] to an output or an error.

use crate::{WorkflowId, deadline::before_deadline, telemetry};
use futures_util::FutureExt;
use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, run_concurrent, service_fn};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use std::{fmt, panic::AssertUnwindSafe, process::ExitCode};
use tracing::{Instrument, error};

/// The event of a step's function: the `Payload` that every task state of the definition builds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepEvent<I> {
    /// The workflow that the step belongs to. The same on every attempt: what a step does elsewhere can be told by it
    /// from what it has done before.
    pub workflow_id: WorkflowId,
    /// How often the state was tried before, since it was entered or redriven: 0 for the first attempt. Attempts that
    /// did not come as far as the function count too.
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
    /// The step's output cannot be written as JSON.
    #[error("the step's output cannot be written as JSON")]
    InvalidOutput,
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
            Self::InvalidOutput => "Task.InvalidOutput",
            Self::Timeout => "Task.Timeout",
            Self::Panicked => "Task.Panicked",
        }
    }

    fn unreadable(error: &serde_json::Error) -> Self {
        Self::InvalidInput { line: error.line(), column: error.column() }
    }
}

impl From<StepError> for Diagnostic {
    fn from(error: StepError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}

/// Why an invocation failed. The runtime logs its errors as their `Debug` says: of this one the name alone, because the
/// message is for the state machine, and can tell of the payload.
#[derive(PartialEq, Eq)]
pub struct Failure(Diagnostic);

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.error_type)
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

/// Runs the process of a function whose whole work is one step.
///
/// `init` runs once, before the first event, and gives the step; what it fails on ends the process. The step's error
/// becomes the error that the state machine sees, under the `error_type` of its [`Diagnostic`]. A step that computes
/// for long has to await now and then: it is given up for its deadline only where it does.
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

/// Answers one event with `step`, as JSON: what [`run`] does for each.
///
/// # Errors
/// The step's own, or a [`StepError`].
pub async fn handle<I, O, E, F>(
    step: impl Fn(StepEvent<I>) -> F,
    event: &RawValue,
    context: &Context,
) -> Result<Box<RawValue>, Failure>
where
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Diagnostic>,
    F: Future<Output = Result<O, E>>,
{
    // Read and written here and not by the runtime, so that what does not fit has a name of its own, and so that a
    // panic on the way has one as well.
    let work = async {
        let event: StepEvent<I> = serde_json::from_str(event.get()).map_err(|error| StepError::unreadable(&error))?;
        let output = step(event).await.map_err(Into::into)?;
        to_raw_value(&output).map_err(|_| Diagnostic::from(StepError::InvalidOutput))
    };
    let work = before_deadline(context, AssertUnwindSafe(work).catch_unwind());
    async {
        let outcome = work.await.unwrap_or(Ok(Err(StepError::Timeout.into())));
        let outcome = outcome.unwrap_or(Err(StepError::Panicked.into())).map_err(Failure);
        outcome.inspect_err(|Failure(error)| error!(error = error.error_type, "failed"))
    }
    .instrument(telemetry::workflow_span(&workflow_id(event)))
    .await
}

/// The workflow id for the log, whatever else is wrong with the event.
fn workflow_id(event: &RawValue) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Id {
        workflow_id: WorkflowId,
    }
    serde_json::from_str(event.get())
        .map_or_else(|_| "unknown".to_owned(), |Id { workflow_id }| workflow_id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::BTreeMap,
        time::{Duration, SystemTime},
    };

    const EVENT: &str =
        r#"{"workflowId":"019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d","attempt":2,"input":{"secret":"hunter2"}}"#;

    /// What `step` makes of the event, within a second.
    async fn outcome<I: DeserializeOwned, O: Serialize, F: Future<Output = Result<O, Diagnostic>>>(
        step: impl Fn(StepEvent<I>) -> F,
    ) -> Result<Box<RawValue>, Failure> {
        let deadline = SystemTime::now() + Duration::from_secs(1);
        let millis = deadline.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
        let mut context = Context::default();
        context.deadline = u64::try_from(millis).expect("before the year 500 million");
        let event = RawValue::from_string(EVENT.to_owned()).expect("JSON");
        let outcome = handle(step, &event, &context).await;
        assert!(SystemTime::now() < deadline);
        outcome
    }

    /// The name of the error that `step` ends with.
    async fn error<I: DeserializeOwned, O: Serialize, F: Future<Output = Result<O, Diagnostic>>>(
        step: impl Fn(StepEvent<I>) -> F,
    ) -> String {
        let failure = outcome(step).await.expect_err("an error");
        assert!(!format!("{failure:?}").contains("hunter2"), "what the runtime logs");
        let error = Diagnostic::from(failure);
        if error.error_type.starts_with("Task.") {
            assert!(!error.error_message.contains("hunter2"), "{}", error.error_message);
        }
        error.error_type
    }

    type Any = StepEvent<serde_json::Value>;

    #[tokio::test]
    async fn a_step_gets_its_input_and_which_attempt_it_is() {
        let step = async |event: Any| Ok((event.attempt, event.input["secret"].to_string()));
        assert_eq!(outcome(step).await.expect("an output").get(), r#"[2,"\"hunter2\""]"#);
    }

    #[tokio::test]
    async fn whatever_goes_wrong_has_a_name_of_its_own() {
        let own = |event: Any| Diagnostic { error_type: "My.Error".to_owned(), error_message: event.input.to_string() };
        assert_eq!(error(async |event: Any| Err::<(), _>(own(event))).await, "My.Error");
        assert_eq!(error(async |_: StepEvent<String>| Ok(())).await, "Task.InvalidInput");
        assert_eq!(error(async |_: Any| Ok(BTreeMap::from([((1, 2), 3)]))).await, "Task.InvalidOutput");
        assert_eq!(error(async |_: Any| std::future::pending::<Result<(), _>>().await).await, "Task.Timeout");
    }

    #[tokio::test]
    async fn a_panic_is_caught_wherever_it_comes_from() {
        #[derive(Debug)]
        struct Panics;
        impl<'de> Deserialize<'de> for Panics {
            fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                panic!("hunter2")
            }
        }
        impl Serialize for Panics {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("hunter2")
            }
        }
        let at_once = |event: Any| -> std::future::Ready<Result<(), Diagnostic>> { panic!("{}", event.input) };
        assert_eq!(error(at_once).await, "Task.Panicked");
        assert_eq!(error(async |event: Any| -> Result<(), _> { panic!("{}", event.input) }).await, "Task.Panicked");
        assert_eq!(error(async |event: StepEvent<Panics>| Ok(format!("{event:?}"))).await, "Task.Panicked");
        assert_eq!(error(async |_: Any| Ok(Panics)).await, "Task.Panicked");
    }
}
