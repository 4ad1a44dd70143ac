//! A mocked Step Functions, and events for the trigger.

// Each test binary uses a part of it.
#![allow(dead_code)]

use aws_sdk_sfn::{
    Client,
    operation::{
        describe_execution::DescribeExecutionOutput,
        list_state_machines::ListStateMachinesOutput,
        start_execution::{StartExecutionError, StartExecutionOutput},
    },
    primitives::DateTime,
    types::{ExecutionStatus, StateMachineListItem, StateMachineType, error::ExecutionAlreadyExists},
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use lambda_runtime::{Context, LambdaEvent};
use serde_json::value::RawValue;
use trigger::{StateMachine, Trigger};

pub(crate) const ACCEPTED: &str = include_str!("../../events/accepted.json");
pub(crate) const ID: &str = "019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d";
pub(crate) const PAYLOAD: &str = r#"{ "key": "value", "n": 123456789012345678901234567890.10, "a": 1, "a": 2 }"#;
pub(crate) const REQUEST_ID: &str = "5c3b1c2e-8f0a-4b7e-9d6a-1f2e3d4c5b6a";

pub(crate) const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:OnFailureQueue";

pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:states:us-east-1:123456789012:stateMachine:{name}")
}

pub(crate) fn event(text: &str) -> LambdaEvent<Box<RawValue>> {
    let mut context = Context::default();
    REQUEST_ID.clone_into(&mut context.request_id);
    context.deadline = u64::MAX / 2_000_000;
    LambdaEvent::new(serde_json::from_str(text).expect("JSON"), context)
}

pub(crate) fn trigger(rules: &[&Rule]) -> Trigger {
    let client = mock_client!(aws_sdk_sfn, RuleMode::Sequential, rules);
    Trigger::new(client, StateMachine::Named("orchestration-dev".to_owned()), Some(QUEUE.to_owned()))
}

/// A page of the listing with machines of these names, and a token for the next one where there is one.
pub(crate) fn page(token: Option<&'static str>, names: &'static [&'static str], next: Option<&'static str>) -> Rule {
    mock!(Client::list_state_machines)
        .match_requests(move |request| request.max_results() == Some(1_000) && request.next_token() == token)
        .then_output(move || {
            let machines = names.iter().map(|name| {
                StateMachineListItem::builder()
                    .name(*name)
                    .state_machine_arn(arn(name))
                    .r#type(StateMachineType::Standard)
                    .creation_date(DateTime::from_secs(0))
                    .build()
                    .expect("all fields are set")
            });
            ListStateMachinesOutput::builder()
                .set_state_machines(Some(machines.collect()))
                .set_next_token(next.map(str::to_owned))
                .build()
                .expect("all fields are set")
        })
}

pub(crate) fn started(name: &'static str, input: &'static str) -> Rule {
    mock!(Client::start_execution)
        .match_requests(move |request| {
            request.state_machine_arn() == Some(&arn("orchestration-dev"))
                && request.name() == Some(name)
                && request.input() == Some(input)
        })
        .then_output(|| {
            let output = StartExecutionOutput::builder().execution_arn("arn").start_date(DateTime::from_secs(0));
            output.build().expect("all fields are set")
        })
}

pub(crate) fn refused(error: fn() -> StartExecutionError) -> Rule {
    mock!(Client::start_execution).then_error(error)
}

pub(crate) fn taken() -> StartExecutionError {
    StartExecutionError::ExecutionAlreadyExists(ExecutionAlreadyExists::builder().build())
}

pub(crate) fn described(status: ExecutionStatus, input: &'static str) -> Rule {
    mock!(Client::describe_execution)
        .match_requests(|request| {
            let arn = format!("arn:aws:states:us-east-1:123456789012:execution:orchestration-dev:{ID}");
            request.execution_arn() == Some(&arn)
        })
        .then_output(move || {
            DescribeExecutionOutput::builder()
                .execution_arn("arn")
                .state_machine_arn("arn")
                .status(status.clone())
                .start_date(DateTime::from_secs(0))
                .input(input)
                .build()
                .expect("all fields are set")
        })
}
