//! `GET /workflows/{workflowId}/steps`

use super::{Id, may_be_waiting, rfc3339};
use crate::{Api, ApiError, arn::FunctionArn};
use aws_sdk_sfn::{
    operation::get_execution_history::GetExecutionHistoryError,
    types::{HistoryEvent, HistoryEventType},
};
use axum::{Json, extract::State};
use serde::Serialize;
use shared::WorkflowId;
use std::{collections::HashMap, sync::Arc};

/// The states that a workflow has entered, in that order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Steps {
    workflow_id: WorkflowId,
    steps: Vec<Step>,
}

/// One state. `error` and `cause` are those of its last failed attempt, and stay when a later attempt succeeds.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    name: String,
    status: &'static str,
    attempts: u32,
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

/// Tells which states a workflow has been through, and how each of them went.
pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    function: FunctionArn,
    Id(workflow_id): Id,
) -> Result<Json<Steps>, ApiError> {
    let execution = function.execution(&api.state_machine, &workflow_id)?;
    let history = api.step_functions.get_execution_history().execution_arn(execution).max_results(1_000);
    let mut events = history.include_execution_data(false).into_paginator().items().send();
    let mut steps = History::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => steps.add(&event, &function),
            Err(error) => match error.as_service_error() {
                Some(GetExecutionHistoryError::ExecutionDoesNotExist(_)) if may_be_waiting(&workflow_id) => break,
                Some(GetExecutionHistoryError::ExecutionDoesNotExist(_)) => return Err(ApiError::UnknownWorkflow),
                _ => return Err(ApiError::aws("GetExecutionHistory", &error)),
            },
        }
    }
    Ok(Json(Steps { workflow_id, steps: steps.steps }))
}

/// The steps as the history tells them, event by event.
#[derive(Debug, Default)]
struct History {
    steps: Vec<Step>,
    /// The step that each event belongs to: its own, or that of the event before it.
    step_of: HashMap<i64, usize>,
}

impl History {
    fn add(&mut self, event: &HistoryEvent, function: &FunctionArn) {
        let at = rfc3339(Some(&event.timestamp));
        if let Some(entered) = &event.state_entered_event_details {
            self.steps.push(Step { name: entered.name.clone(), status: "RUNNING", started_at: at, ..Step::default() });
            self.step_of.insert(event.id, self.steps.len() - 1);
            return;
        }
        if let Some(exited) = &event.state_exited_event_details {
            // By its name, because the event before may be one of a branch inside this state.
            if let Some(step) = self.steps.iter_mut().rfind(|step| step.name == exited.name) {
                (step.status, step.stopped_at) = ("SUCCEEDED", at);
            }
            return;
        }
        if let Some(status) = end_of_execution(&event.r#type) {
            for step in self.steps.iter_mut().filter(|step| step.stopped_at.is_none()) {
                (step.status, step.stopped_at) = (status, at.clone());
            }
            // A redrive goes on from here.
            if let Some(last) = self.steps.len().checked_sub(1) {
                self.step_of.insert(event.id, last);
            }
            return;
        }
        let Some(&index) = self.step_of.get(&event.previous_event_id) else { return };
        self.step_of.insert(event.id, index);
        let step = &mut self.steps[index];
        if matches!(event.r#type, HistoryEventType::TaskScheduled | HistoryEventType::LambdaFunctionScheduled) {
            step.attempts += 1;
            // After a redrive the step runs again.
            (step.status, step.stopped_at) = ("RUNNING", None);
        }
        if let Some((error, cause)) = failure(event) {
            (step.error, step.cause) = (error.map(|e| function.redacted(&e)), cause.map(|c| function.redacted(&c)));
        }
    }
}

fn end_of_execution(event: &HistoryEventType) -> Option<&'static str> {
    match event {
        HistoryEventType::ExecutionFailed => Some("FAILED"),
        HistoryEventType::ExecutionTimedOut => Some("TIMED_OUT"),
        HistoryEventType::ExecutionAborted => Some("ABORTED"),
        _ => None,
    }
}

/// The error and the cause of a failed attempt.
fn failure(event: &HistoryEvent) -> Option<(Option<String>, Option<String>)> {
    macro_rules! first_of {
        ($($details:ident),+) => {
            $(if let Some(details) = &event.$details {
                return Some((details.error.clone(), details.cause.clone()));
            })+
        };
    }
    first_of!(
        task_failed_event_details,
        task_timed_out_event_details,
        task_start_failed_event_details,
        task_submit_failed_event_details,
        lambda_function_failed_event_details,
        lambda_function_timed_out_event_details,
        lambda_function_start_failed_event_details,
        lambda_function_schedule_failed_event_details
    );
    None
}
