//! The trigger function: one event in, one execution of the state machine started.

mod error;
mod state_machine;

pub use error::TriggerError;
pub use state_machine::StateMachine;

use aws_sdk_sfn::{Client, operation::start_execution::StartExecutionError};
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::{deadline::before_deadline, event::TriggerEvent, telemetry};
use state_machine::Found;
use tracing::{Instrument, error, info};

/// Starts executions of one state machine. Built once, during init; keeps the state machine's ARN once found.
#[derive(Debug)]
pub struct Trigger {
    step_functions: Client,
    state_machine: Found,
}

/// What the function returns: the contract of the design that the suite grew from. `body` is a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Triggered {
    status_code: u16,
    body: &'static str,
}

const TRIGGERED: Triggered = Triggered { status_code: 200, body: r#""Step Function Triggered!""# };

impl Trigger {
    /// A trigger for `state_machine`, calling through `step_functions`.
    #[must_use]
    pub fn new(step_functions: Client, state_machine: StateMachine) -> Self {
        Self { step_functions, state_machine: Found::new(state_machine) }
    }

    /// Starts the workflow that `event` asks for.
    ///
    /// An event of the API function brings its workflow id and payload. Any other event is itself the input, and its
    /// request id, which Lambda keeps the same on every try, names the execution.
    ///
    /// # Errors
    /// The execution is not known to have started. Lambda then tries the event again.
    pub async fn handle(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Triggered, TriggerError> {
        let (event, context) = event.into_parts();
        let (name, input) = match serde_json::from_str::<TriggerEvent>(event.get()) {
            Ok(TriggerEvent { workflow_id, payload }) => (workflow_id.to_string(), payload),
            Err(_) => (context.request_id.clone(), &*event),
        };
        async {
            // On the heap: the SDK nests futures deeper than the compiler lays out in one.
            let started = before_deadline(&context, Box::pin(self.start(&name, input))).await;
            match started.unwrap_or(Err(TriggerError::TimedOut)) {
                Ok(()) => Ok(TRIGGERED),
                Err(error) => {
                    error!(error = error.name(), "{error}");
                    Err(error)
                }
            }
        }
        .instrument(telemetry::workflow_span(&name))
        .await
    }

    async fn start(&self, name: &str, input: &RawValue) -> Result<(), TriggerError> {
        match self.start_once(name, input).await {
            // The ARN was out of date; it is forgotten by now, and the name may lead to another.
            Err(TriggerError::StateMachineGone) => self.start_once(name, input).await,
            outcome => outcome,
        }
    }

    async fn start_once(&self, name: &str, input: &RawValue) -> Result<(), TriggerError> {
        let arn = self.state_machine.arn(&self.step_functions).await?;
        let request = self.step_functions.start_execution().state_machine_arn(&arn).name(name).input(input.get());
        let Err(error) = request.send().await else {
            info!("started");
            return Ok(());
        };
        match error.as_service_error() {
            Some(StartExecutionError::ExecutionAlreadyExists(_)) => self.started_before(&arn, name, input).await,
            Some(StartExecutionError::StateMachineDoesNotExist(_)) => {
                self.state_machine.forget(&arn).await;
                Err(TriggerError::StateMachineGone)
            }
            _ => Err(TriggerError::start(&error)),
        }
    }

    /// The name is taken: by this very workflow, when its event came twice or the answer to its start was lost, or
    /// else by another one. While an execution runs, Step Functions itself takes a second start with the same input
    /// for the first; once it has ended, the inputs have to be compared here.
    async fn started_before(&self, arn: &str, name: &str, input: &RawValue) -> Result<(), TriggerError> {
        let execution = format!("{}:{name}", arn.replacen(":stateMachine:", ":execution:", 1));
        let request = self.step_functions.describe_execution().execution_arn(execution);
        let execution = request.send().await.map_err(|error| TriggerError::start(&error))?;
        if execution.input() == Some(input.get()) {
            info!("already started");
            Ok(())
        } else {
            Err(TriggerError::WorkflowIdConflict)
        }
    }
}
