//! `GET /workflows`

use super::{Workflow, rfc3339};
use crate::{Api, ApiError, arn::FunctionArn};
use aws_sdk_sfn::{
    operation::list_executions::ListExecutionsError,
    types::{ExecutionListItem, ExecutionStatus},
};
use axum::{
    Json,
    extract::{FromRequestParts, Query, State},
    http::request::Parts,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is asked for.
#[derive(Deserialize)]
pub(crate) struct Parameters {
    status: Option<String>,
    limit: Option<u8>,
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let rule = "status (RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED), limit (1 to 100) and cursor (the `next` \
                    of an earlier answer), each at most once";
        match Query::<Self>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) if parameters.are_valid() => Ok(parameters),
            _ => Err(ApiError::InvalidParameter(rule)),
        }
    }
}

impl Parameters {
    fn are_valid(&self) -> bool {
        // Step Functions knows one more, PENDING_REDRIVE, and refuses to list a state machine's executions by it.
        let statuses = ["RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"];
        let status = self.status.as_deref().is_none_or(|status| statuses.contains(&status));
        status && self.limit.is_none_or(|limit| (1..=100).contains(&limit))
    }
}

/// A page of workflows, the newest first.
#[derive(Serialize)]
pub(crate) struct Workflows {
    workflows: Vec<Workflow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the workflows that have started.
pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    function: FunctionArn,
    parameters: Parameters,
) -> Result<Json<Workflows>, ApiError> {
    let page = api
        .step_functions
        .list_executions()
        .state_machine_arn(function.state_machine(&api.state_machine)?)
        .set_status_filter(parameters.status.as_deref().map(ExecutionStatus::from))
        .max_results(parameters.limit.unwrap_or(20).into())
        .set_next_token(parameters.cursor.as_deref().map(token).transpose()?)
        .send()
        .await
        .map_err(|error| match error.as_service_error() {
            Some(ListExecutionsError::InvalidToken(_) | ListExecutionsError::ValidationException(_))
                if parameters.cursor.is_some() =>
            {
                ApiError::UnknownCursor
            }
            _ => ApiError::aws("ListExecutions", &error),
        })?;
    Ok(Json(Workflows {
        workflows: page.executions.iter().filter_map(listed).collect(),
        next: page.next_token.map(cursor),
    }))
}

/// `None` for an execution that was started by other means, under a name that is no workflow id.
fn listed(execution: &ExecutionListItem) -> Option<Workflow> {
    Some(Workflow {
        status: execution.status.as_str().to_owned(),
        started_at: rfc3339(Some(&execution.start_date)),
        stopped_at: rfc3339(execution.stop_date.as_ref()),
        ..Workflow::pending(execution.name.parse().ok()?)
    })
}

/// Step Functions' token in letters that a query can hold as they are.
fn cursor(token: String) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(token)
}

fn token(cursor: &str) -> Result<String, ApiError> {
    let token = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    token.filter(|token| !token.is_empty()).ok_or(ApiError::UnknownCursor)
}
