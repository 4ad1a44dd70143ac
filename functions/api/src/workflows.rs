//! `GET /workflows/{workflowId}`

mod arn;
pub(crate) mod steps;

use crate::{Api, ApiError};
use aws_sdk_sfn::{
    operation::describe_execution::{DescribeExecutionError, DescribeExecutionOutput},
    primitives::{DateTime, DateTimeFormat},
    types::ExecutionStatus,
};
use axum::{
    Extension, Json,
    extract::{FromRequestParts, Path, State},
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use lambda_http::Context;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::WorkflowId;
use std::time::{Duration, SystemTime};

/// How long an accepted event can wait for its start: the `MaximumEventAgeInSeconds` of the trigger function in
/// `template.yaml`, and a margin for its last try.
const EVENT_WAIT: Duration = Duration::from_mins(6 * 60 + 10);

/// How far this clock and the one that minted an id may differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// What a caller may know of a workflow. Times are RFC 3339.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Workflow {
    workflow_id: WorkflowId,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

impl Workflow {
    fn pending(workflow_id: WorkflowId) -> Self {
        let (started_at, stopped_at, output, error, cause) = Default::default();
        Self { workflow_id, status: "PENDING".to_owned(), started_at, stopped_at, output, error, cause }
    }

    fn described(workflow_id: WorkflowId, execution: DescribeExecutionOutput) -> Result<Self, ApiError> {
        Ok(Self {
            workflow_id,
            status: execution.status.as_str().to_owned(),
            started_at: rfc3339(Some(&execution.start_date)),
            stopped_at: rfc3339(execution.stop_date.as_ref()),
            output: execution.output.map(RawValue::from_string).transpose().map_err(ApiError::internal)?,
            error: execution.error,
            cause: execution.cause.as_deref().map(arn::without_arns),
        })
    }

    fn is_finished(&self) -> bool {
        !["PENDING", ExecutionStatus::Running.as_str(), ExecutionStatus::PendingRedrive.as_str()]
            .contains(&self.status.as_str())
    }
}

impl IntoResponse for Workflow {
    fn into_response(self) -> Response {
        let retry_after = (!self.is_finished()).then_some([(header::RETRY_AFTER, "1")]);
        (retry_after, Json(self)).into_response()
    }
}

/// The id in the path. What cannot be one is the id of no workflow.
pub(crate) struct Id(WorkflowId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| ApiError::UnknownWorkflow)?;
        id.parse().map(Self).map_err(|_| ApiError::UnknownWorkflow)
    }
}

/// Tells how a workflow stands.
pub(crate) async fn get(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    Id(workflow_id): Id,
) -> Result<Workflow, ApiError> {
    let execution = arn::execution(&context.invoked_function_arn, &api.state_machine, &workflow_id)?;
    match api.step_functions.describe_execution().execution_arn(execution).send().await {
        Ok(execution) => Workflow::described(workflow_id, execution),
        Err(error) => match error.as_service_error() {
            Some(DescribeExecutionError::ExecutionDoesNotExist(_)) if may_be_waiting(&workflow_id) => {
                Ok(Workflow::pending(workflow_id))
            }
            Some(DescribeExecutionError::ExecutionDoesNotExist(_)) => Err(ApiError::UnknownWorkflow),
            _ => Err(ApiError::aws("DescribeExecution", &error)),
        },
    }
}

/// Whether an event with this id may still be on its way to the state machine. Only ids of the API's own making
/// carry the time that tells.
fn may_be_waiting(id: &WorkflowId) -> bool {
    id.minted_at().is_some_and(|minted| match SystemTime::now().duration_since(minted) {
        Ok(age) => age <= EVENT_WAIT,
        Err(ahead) => ahead.duration() <= CLOCK_SKEW,
    })
}

fn rfc3339(time: Option<&DateTime>) -> Option<String> {
    time.and_then(|time| time.fmt(DateTimeFormat::DateTime).ok())
}
