use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use lambda_runtime::Diagnostic;

/// Why an event did not become an execution. The messages carry names and AWS error codes, never a payload or an ARN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// No state machine has the name.
    #[error("no state machine is named {0}: deploy it, or correct ENVIRONMENT or STATE_MACHINE_ARN")]
    StateMachineNotFound(String),
    /// The state machine has gone since its ARN was found or set.
    #[error("the state machine no longer exists: deploy it, or correct ENVIRONMENT or STATE_MACHINE_ARN")]
    StateMachineGone,
    /// The search by name failed.
    #[error("the search for the state machine failed: {0}")]
    SearchFailed(String),
    /// `StartExecution` failed.
    #[error("the execution was not started: {0}")]
    StartFailed(String),
    /// The function's time was nearly over.
    #[error("Step Functions took longer than the function may: it is not known whether the execution has started")]
    TimedOut,
    /// The name belongs to an execution with another input.
    #[error("another workflow was started under this id: nothing was started for this event")]
    WorkflowIdConflict,
    /// A message of the on-failure queue that Lambda did not put there.
    #[error("a message of the on-failure queue is no record of a failed event: look at it and delete it")]
    NotARecord,
    /// Records of failed events from another queue. As the input of one execution they would be lost.
    #[error("records of failed events came from a queue that is not ON_FAILURE_QUEUE_ARN: map that one, or set this")]
    UnknownQueue,
    /// Not one message of a batch could be started. All of them stay on the queue.
    #[error("nothing of the batch was started: the lines above say why")]
    NothingRedriven,
}

impl TriggerError {
    /// The `errorType` that Lambda and the on-failure record show.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StateMachineNotFound(_) => "Trigger.StateMachineNotFound",
            Self::StateMachineGone => "Trigger.StateMachineGone",
            Self::SearchFailed(_) => "Trigger.SearchFailed",
            Self::StartFailed(_) => "Trigger.StartFailed",
            Self::TimedOut => "Trigger.TimedOut",
            Self::WorkflowIdConflict => "Trigger.WorkflowIdConflict",
            Self::NotARecord => "Trigger.NotARecord",
            Self::UnknownQueue => "Trigger.UnknownQueue",
            Self::NothingRedriven => "Trigger.NothingRedriven",
        }
    }

    /// The error, once it stands in the log.
    pub(crate) fn logged(self) -> Self {
        tracing::error!(error = self.name(), "{self}");
        self
    }

    pub(crate) fn search<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Self {
        Self::SearchFailed(reason(error))
    }

    pub(crate) fn start<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Self {
        Self::StartFailed(reason(error))
    }
}

impl From<TriggerError> for Diagnostic {
    fn from(error: TriggerError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}

/// AWS's error code, or what kept its answer away. AWS's message stays out: it quotes ARNs.
fn reason<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    match error {
        SdkError::TimeoutError(_) => "Step Functions did not answer in time".to_owned(),
        SdkError::DispatchFailure(_) => "Step Functions could not be reached".to_owned(),
        _ => error.code().unwrap_or("Step Functions gave an answer that could not be read").to_owned(),
    }
}
