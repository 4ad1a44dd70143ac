//! `GET /workflows/{workflowId}`, and what all routes below `/workflows` share.

pub(crate) mod list;
pub(crate) mod redrive;
pub(crate) mod steps;
pub(crate) mod stop;

use crate::{Api, ApiError, arn::FunctionArn, cache};
use aws_sdk_sfn::{
    operation::describe_execution::{DescribeExecutionError, DescribeExecutionOutput},
    primitives::{DateTime, DateTimeFormat},
    types::ExecutionStatus,
};
use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use quick_cache::{Weighter, sync::Cache};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::WorkflowId;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep};

/// How long an accepted event can wait for its start: the `MaximumEventAgeInSeconds` of the trigger function in
/// `template.yaml`, then the `MessageRetentionPeriod` of its on-failure queue, and a margin for the last try.
const EVENT_WAIT: Duration = Duration::from_mins(6 * 60 + 14 * 24 * 60 + 10);

/// How far this clock and the one that minted an id may differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// The longest that an answer is held for a workflow to end, in seconds. API Gateway gives up after 30.
const MAX_WAIT_SECONDS: u8 = 20;

/// What a caller may know of a workflow. Times are RFC 3339.
#[derive(Clone, Debug, Serialize)]
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

    fn described(
        workflow_id: WorkflowId,
        execution: DescribeExecutionOutput,
        function: &FunctionArn,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            workflow_id,
            status: execution.status.as_str().to_owned(),
            started_at: rfc3339(Some(&execution.start_date)),
            stopped_at: rfc3339(execution.stop_date.as_ref()),
            output: execution.output.map(RawValue::from_string).transpose().map_err(ApiError::internal)?,
            error: execution.error.map(|error| function.redacted(&error)),
            cause: execution.cause.map(|cause| function.redacted(&cause)),
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

/// Workflows that have succeeded, for a while: `DescribeExecution` has 15 calls a second for a whole account. Those
/// that ended otherwise are read afresh, because a redrive, through whatever door, makes them run again.
#[derive(Debug)]
pub(crate) struct Succeeded(Cache<WorkflowId, Workflow, Bytes>);

/// Weighs a workflow by its output.
#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<WorkflowId, Workflow> for Bytes {
    fn weight(&self, _: &WorkflowId, workflow: &Workflow) -> u64 {
        let output = workflow.output.as_ref().map_or(0, |output| output.get().len());
        u64::try_from(output).unwrap_or(u64::MAX).saturating_add(256)
    }
}

impl Default for Succeeded {
    fn default() -> Self {
        // 8 MiB: a small part of the function's memory, and room for thousands of small outputs.
        Self(cache(1_024, 8 << 20, Bytes))
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

/// How long the answer may be held.
pub(crate) struct Wait(Duration);

impl<S: Send + Sync> FromRequestParts<S> for Wait {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Parameters {
            wait: Option<u8>,
        }
        match Query::from_request_parts(parts, state).await {
            Ok(Query(Parameters { wait })) if wait <= Some(MAX_WAIT_SECONDS) => {
                Ok(Self(Duration::from_secs(wait.unwrap_or(0).into())))
            }
            _ => Err(ApiError::InvalidParameter("wait once, in whole seconds from 0 to 20")),
        }
    }
}

/// Tells how a workflow stands, once it has ended or the time to wait for that is over.
pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    function: FunctionArn,
    Id(workflow_id): Id,
    Wait(wait): Wait,
) -> Result<Workflow, ApiError> {
    let end = Instant::now() + wait;
    let mut pause = Duration::from_millis(100);
    loop {
        let workflow = read(&api, &function, workflow_id).await;
        let may_change = match &workflow {
            Ok(workflow) => !workflow.is_finished(),
            Err(error) => matches!(error, ApiError::Throttled),
        };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || !may_change {
            return workflow;
        }
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn read(api: &Api, function: &FunctionArn, id: WorkflowId) -> Result<Workflow, ApiError> {
    if let Some(workflow) = api.succeeded.0.get(&id) {
        return Ok(workflow);
    }
    let Some(execution) = describe(api, function, &id).await? else {
        return if may_be_waiting(&id) { Ok(Workflow::pending(id)) } else { Err(ApiError::UnknownWorkflow) };
    };
    let workflow = Workflow::described(id, execution, function)?;
    if workflow.status == ExecutionStatus::Succeeded.as_str() && workflow.output.is_some() {
        api.succeeded.0.insert(id, workflow.clone());
    }
    Ok(workflow)
}

/// The execution of a workflow, if it has started.
pub(crate) async fn describe(
    api: &Api,
    function: &FunctionArn,
    id: &WorkflowId,
) -> Result<Option<DescribeExecutionOutput>, ApiError> {
    let execution = function.execution(&api.state_machine, id)?;
    match api.step_functions.describe_execution().execution_arn(execution).send().await {
        Ok(execution) => Ok(Some(execution)),
        Err(error) => match error.as_service_error() {
            Some(DescribeExecutionError::ExecutionDoesNotExist(_)) => Ok(None),
            _ => Err(ApiError::aws("DescribeExecution", &error)),
        },
    }
}

/// Whether an event with this id may still be on its way to the state machine. An id of the API's own minting carries
/// the time that tells; one from an idempotency key carries none, and has the benefit of the doubt.
fn may_be_waiting(id: &WorkflowId) -> bool {
    id.is_from_digest()
        || id.minted_at().is_some_and(|minted| match SystemTime::now().duration_since(minted) {
            Ok(age) => age <= EVENT_WAIT,
            Err(ahead) => ahead.duration() <= CLOCK_SKEW,
        })
}

/// Why nothing can be done to a workflow that Step Functions does not know.
fn not_started(id: &WorkflowId) -> ApiError {
    if may_be_waiting(id) { ApiError::WorkflowPending } else { ApiError::UnknownWorkflow }
}

/// The answer to a request that changes a workflow: it is under way, and `Location` tells how it goes.
fn accepted(workflow_id: WorkflowId) -> impl IntoResponse {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Accepted {
        workflow_id: WorkflowId,
    }
    let location = [(header::LOCATION, format!("/workflows/{workflow_id}"))];
    (StatusCode::ACCEPTED, location, Json(Accepted { workflow_id }))
}

fn rfc3339(time: Option<&DateTime>) -> Option<String> {
    time.and_then(|time| time.fmt(DateTimeFormat::DateTime).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_yaml_ng::Value;

    #[test]
    fn the_template_leaves_the_time_that_the_code_takes() {
        let template: Value = serde_yaml_ng::from_str(include_str!("../../../template.yaml")).expect("YAML");
        let of = |function: &str| &template["Resources"][function]["Properties"];
        let age = &of("TriggerFunction")["EventInvokeConfig"]["MaximumEventAgeInSeconds"];
        let retention = &of("OnFailureQueue")["MessageRetentionPeriod"];
        let wait = age.as_u64().zip(retention.as_u64()).map(|(age, retention)| Duration::from_secs(age + retention));
        assert!(wait.is_some_and(|wait| wait < EVENT_WAIT), "{age:?} {retention:?}");
        // What an answer may be held for, and one last call to Step Functions (functions/shared/src/aws.rs).
        let timeout = &of("ApiFunction")["Timeout"];
        assert!(timeout.as_u64().is_some_and(|timeout| timeout > u64::from(MAX_WAIT_SECONDS) + 8), "{timeout:?}");
    }
}
