//! `DELETE /workflows/{workflowId}`

use super::{Id, Workflow, accepted, describe, not_started};
use crate::{Api, ApiError, arn::FunctionArn};
use axum::{extract::State, response::IntoResponse};
use std::sync::Arc;
use tracing::info;

/// Stops a workflow. One that has finished is left alone, which `StopExecution` itself does without a word.
pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    function: FunctionArn,
    Id(workflow_id): Id,
) -> Result<impl IntoResponse, ApiError> {
    let execution = describe(&api, &function, &workflow_id).await?.ok_or_else(|| not_started(&workflow_id))?;
    let arn = execution.execution_arn.clone();
    let workflow = Workflow::described(workflow_id, execution, &function)?;
    if workflow.is_finished() {
        return Err(ApiError::WorkflowFinished(workflow.status));
    }
    let stop = api.step_functions.stop_execution().execution_arn(arn);
    let stop = stop.error("Workflow.Stopped").cause("stopped through the API");
    stop.send().await.map_err(|error| ApiError::aws("StopExecution", &error))?;
    info!("stopped");
    Ok(accepted(workflow_id))
}
