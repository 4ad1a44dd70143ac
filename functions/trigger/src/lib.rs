//! The trigger function: one event in, one execution of the state machine started.

mod error;
mod on_failure;
mod state_machine;

pub use error::TriggerError;
pub use on_failure::Failures;
pub use state_machine::StateMachine;

use aws_sdk_sfn::{Client, operation::start_execution::StartExecutionError};
use futures_util::future::join_all;
use lambda_runtime::{Context, LambdaEvent};
use on_failure::Message;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::{deadline::before_deadline, event::TriggerEvent, https, metrics::Metric, telemetry};
use state_machine::Found;
use std::borrow::Cow;
use tracing::{Instrument, error_span, info};

/// Starts executions of one state machine. Built once, during init; keeps the state machine's ARN once found.
#[derive(Debug)]
pub struct Trigger {
    step_functions: Client,
    state_machine: Found,
    on_failure_queue: Option<String>,
}

/// What the function returns.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To one event that was started.
    Triggered(Triggered),
    /// To a batch of the on-failure queue.
    Redriven(Failures),
}

/// The contract of the design that the suite grew from. `body` is a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Triggered {
    status_code: u16,
    body: &'static str,
}

const TRIGGERED: Triggered = Triggered { status_code: 200, body: r#""Step Function Triggered!""# };

/// The execution that an event asks for.
struct Start<'a> {
    name: Cow<'a, str>,
    input: Cow<'a, str>,
}

impl<'a> Start<'a> {
    /// An event of the API function brings its workflow id and payload. Any other event is itself the input, and its
    /// request id, which Lambda keeps the same on every try, names the execution.
    fn of(event: &'a RawValue, request_id: impl Into<Cow<'a, str>>) -> Self {
        match serde_json::from_str(event.get()) {
            Ok(TriggerEvent { workflow_id, payload }) => Self { name: workflow_id.to_string().into(), input: payload },
            Err(_) => Self { name: request_id.into(), input: event.get().into() },
        }
    }
}

impl Trigger {
    /// A trigger for `state_machine`, calling through `step_functions`. Batches of `on_failure_queue`, an ARN, hold
    /// the records of events that were given up, which it starts after all.
    #[must_use]
    pub fn new(step_functions: Client, state_machine: StateMachine, on_failure_queue: Option<String>) -> Self {
        Self { step_functions, state_machine: Found::new(state_machine), on_failure_queue }
    }

    /// Finds the state machine, and so opens the connection that every event needs.
    pub async fn connect(&self) {
        https::during_init(self.state_machine.look(&self.step_functions)).await;
    }

    /// Starts the workflow that `event` asks for, or those of a batch of the on-failure queue.
    ///
    /// # Errors
    /// The execution is not known to have started: Lambda tries the event again. What fails of a batch is told in
    /// the answer, and stays on the queue; where all of it fails, that is an error.
    pub async fn handle(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, TriggerError> {
        let (event, context) = event.into_parts();
        let messages = on_failure::messages(&event, self.on_failure_queue.as_deref()).map_err(TriggerError::logged)?;
        if let Some(messages) = messages {
            return self.redrive(messages, &context).await.map(Answer::Redriven);
        }
        self.start(Start::of(&event, &context.request_id), &context).await?;
        Ok(Answer::Triggered(TRIGGERED))
    }

    /// Starts what the records in `messages` asked for, side by side, and gives back those that failed.
    async fn redrive(&self, messages: Vec<Message<'_>>, context: &Context) -> Result<Failures, TriggerError> {
        // Once for all of them: side by side they would each search anew after a search that failed.
        let found = before_deadline(context, Box::pin(self.state_machine.arn(&self.step_functions))).await;
        found.unwrap_or(Err(TriggerError::TimedOut)).map_err(TriggerError::logged)?;
        let outcomes = messages.iter().map(|message| {
            let redriven = async {
                match message.start() {
                    Ok(start) => self.start(start, context).await,
                    Err(error) => Err(error.logged()),
                }
            };
            redriven.instrument(error_span!("message", messageId = message.id()))
        });
        let outcomes = join_all(outcomes).await;
        // An error of the invocation is what alarms see, and Lambda then asks less often.
        if outcomes.iter().all(Result::is_err) {
            return Err(TriggerError::NothingRedriven.logged());
        }
        let failed = messages.into_iter().zip(outcomes).filter(|(_, outcome)| outcome.is_err());
        Ok(failed.map(|(message, _)| message).collect())
    }

    async fn start(&self, start: Start<'_>, context: &Context) -> Result<(), TriggerError> {
        let Start { name, input } = &start;
        async {
            // On the heap: the SDK nests futures deeper than the compiler lays out in one.
            let started =
                before_deadline(context, Box::pin(self.start_or_search_again(name, input, trace(context)))).await;
            started.unwrap_or(Err(TriggerError::TimedOut)).map_err(TriggerError::logged)
        }
        .instrument(telemetry::workflow_span(name))
        .await
    }

    async fn start_or_search_again(&self, name: &str, input: &str, trace: Option<&str>) -> Result<(), TriggerError> {
        match self.start_once(name, input, trace).await {
            // The ARN was out of date; it is forgotten by now, and the name may lead to another.
            Err(TriggerError::StateMachineGone) => self.start_once(name, input, trace).await,
            outcome => outcome,
        }
    }

    async fn start_once(&self, name: &str, input: &str, trace: Option<&str>) -> Result<(), TriggerError> {
        let arn = self.state_machine.arn(&self.step_functions).await?;
        let request = self.step_functions.start_execution().state_machine_arn(&arn).name(name).input(input);
        let Err(error) = request.set_trace_header(trace.map(str::to_owned)).send().await else {
            info!("started");
            Metric::WorkflowsStarted.count();
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
    async fn started_before(&self, arn: &str, name: &str, input: &str) -> Result<(), TriggerError> {
        let execution = format!("{}:{name}", arn.replacen(":stateMachine:", ":execution:", 1));
        let request = self.step_functions.describe_execution().execution_arn(execution);
        let execution = request.send().await.map_err(|error| TriggerError::start(&error))?;
        if execution.input() == Some(input) {
            info!("already started");
            Metric::WorkflowsAlreadyStarted.count();
            Ok(())
        } else {
            Metric::WorkflowIdConflicts.count();
            Err(TriggerError::WorkflowIdConflict)
        }
    }
}

/// The invocation's X-Ray trace, for the execution to go on with: `StartExecution` takes up to 256 characters of ASCII
/// (<https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>).
fn trace(context: &Context) -> Option<&str> {
    context.xray_trace_id.as_deref().filter(|header| header.is_ascii() && (1..=256).contains(&header.len()))
}
