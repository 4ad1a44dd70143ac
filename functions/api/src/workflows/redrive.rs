//! `POST /workflows/{workflowId}/redrive`

use super::{Id, accepted, not_started};
use crate::{Api, ApiError, arn::FunctionArn};
use aws_sdk_sfn::operation::redrive_execution::RedriveExecutionError;
use axum::{extract::State, response::IntoResponse};
use std::sync::Arc;
use tracing::info;

/// Lets a failed, stopped or timed-out workflow go on from the state that failed.
pub(crate) async fn post(
    State(api): State<Arc<Api>>,
    function: FunctionArn,
    Id(workflow_id): Id,
) -> Result<impl IntoResponse, ApiError> {
    let execution = function.execution(&api.state_machine, &workflow_id)?;
    api.step_functions.redrive_execution().execution_arn(execution).send().await.map_err(|error| {
        match error.as_service_error() {
            Some(RedriveExecutionError::ExecutionDoesNotExist(_)) => not_started(&workflow_id),
            Some(RedriveExecutionError::ExecutionLimitExceeded(_)) => ApiError::Throttled,
            Some(RedriveExecutionError::ExecutionNotRedrivable(refusal)) => {
                let reason = refusal.message.as_deref().unwrap_or("Step Functions refuses");
                ApiError::NotRedrivable(function.redacted(reason))
            }
            _ => ApiError::aws("RedriveExecution", &error),
        }
    })?;
    info!("redriven");
    Ok(accepted(workflow_id))
}
