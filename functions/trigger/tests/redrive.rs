//! Batches of the on-failure queue.

mod support;

use aws_sdk_sfn::{config::http::HttpResponse, types::ExecutionStatus};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use serde_json::{Value, json};
use support::{ACCEPTED, ID, PAYLOAD, QUEUE, described, event, page, refused, started, taken, trigger};
use trigger::{StateMachine, Trigger, TriggerError};

const BATCH: &str = include_str!("../events/on-failure.json");

/// A message of the queue with the record of an event that failed.
fn message(id: &str, payload: &str) -> Value {
    let payload: Value = serde_json::from_str(payload).expect("JSON");
    let record = json!({
        "version": "1.0",
        "timestamp": "2026-11-24T00:00:00.000Z",
        "requestContext": {
            "requestId": format!("request-{id}"),
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:trigger-lambda-dev:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3
        },
        "requestPayload": payload,
        "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
        "responsePayload": { "errorType": "Trigger.StartFailed", "errorMessage": "no" }
    });
    json!({
        "messageId": id,
        "receiptHandle": "handle",
        "body": record.to_string(),
        "attributes": { "ApproximateReceiveCount": "1" },
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE,
        "awsRegion": "us-east-1"
    })
}

fn batch(messages: &[Value]) -> String {
    json!({ "Records": messages }).to_string()
}

async fn handle(trigger: &Trigger, batch: &str) -> Value {
    let answer = trigger.handle(event(batch)).await.expect("an answer");
    serde_json::to_value(answer).expect("JSON")
}

fn denied() -> Rule {
    mock!(aws_sdk_sfn::Client::start_execution).then_http_response(|| {
        let status = 400.try_into().expect("a status");
        HttpResponse::new(status, r#"{"__type":"AccessDeniedException"}"#.into())
    })
}

#[tokio::test]
async fn a_record_starts_under_the_id_of_its_event_with_the_posted_bytes() {
    let (list, start) = (page(None, &["orchestration-dev"], None), started(ID, PAYLOAD));
    let answer = handle(&trigger(&[&list, &start]), BATCH).await;
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    assert_eq!(start.num_calls(), 1);
}

#[tokio::test]
async fn a_record_of_any_other_event_starts_under_its_request_id() {
    let (list, start) = (page(None, &["orchestration-dev"], None), started("request-1", r#"{"a":1}"#));
    let answer = handle(&trigger(&[&list, &start]), &batch(&[message("1", r#"{"a":1}"#)])).await;
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
}

#[tokio::test]
async fn what_has_started_all_the_same_is_done() {
    let (list, twice) = (page(None, &["orchestration-dev"], None), refused(taken));
    let same = described(ExecutionStatus::Succeeded, PAYLOAD);
    let answer = handle(&trigger(&[&list, &twice, &same]), &batch(&[message("1", ACCEPTED)])).await;
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
}

#[tokio::test]
async fn what_fails_stays_on_the_queue_and_the_others_do_not() {
    let mut stranger = message("stranger", "{}");
    stranger["body"] = "hello".into();
    let mut other = message("other", "{}");
    other["body"] = r#"{"requestPayload":{}}"#.into();
    let events = batch(&[message("1", r#"{"n":1}"#), stranger, message("2", r#"{"n":2}"#), other, message("3", "3")]);
    // Whichever of the three comes second is refused.
    let (list, first, second) = (page(None, &["orchestration-dev"], None), any_start(), denied());
    let third = any_start();
    let client = mock_client!(aws_sdk_sfn, RuleMode::Sequential, [&list, &first, &second, &third]);
    let machine = StateMachine::Named("orchestration-dev".to_owned());
    let answer = handle(&Trigger::new(client, machine, Some(QUEUE.to_owned())), &events).await;
    let failures = answer["batchItemFailures"].as_array().expect("failures");
    let failed: Vec<_> = failures.iter().filter_map(|failure| failure["itemIdentifier"].as_str()).collect();
    assert_eq!(failed.len(), 3, "{answer}");
    assert!(failed.contains(&"stranger") && failed.contains(&"other"), "{answer}");
    assert_eq!([&first, &second, &third].map(Rule::num_calls), [1; 3]);
}

fn any_start() -> Rule {
    mock!(aws_sdk_sfn::Client::start_execution).then_http_response(|| {
        let status = 200.try_into().expect("a status");
        HttpResponse::new(status, r#"{"executionArn":"arn","startDate":0}"#.into())
    })
}

#[tokio::test]
async fn a_batch_of_which_nothing_starts_is_an_error() {
    let (list, first, second) = (page(None, &["orchestration-dev"], None), denied(), denied());
    let events = batch(&[message("1", "1"), message("2", "2")]);
    let error = trigger(&[&list, &first, &second]).handle(event(&events)).await.expect_err("nothing started");
    assert_eq!(error, TriggerError::NothingRedriven);

    // The search is not done over again for each message.
    let miss = page(None, &["another"], None);
    let error = trigger(&[&miss]).handle(event(&events)).await.expect_err("no such state machine");
    assert_eq!(error, TriggerError::StateMachineNotFound("orchestration-dev".to_owned()));
    assert_eq!(miss.num_calls(), 1);
}

#[tokio::test]
async fn only_that_queue_is_unwrapped() {
    let of_another_queue = |body: &str| {
        let mut message = message("2", ACCEPTED);
        message["eventSourceARN"] = "arn:aws:sqs:us-east-1:123456789012:another".into();
        if !body.is_empty() {
            message["body"] = body.into();
        }
        message
    };
    for events in [batch(&[]), batch(&[of_another_queue("hello")]), batch(&[of_another_queue("{}")])] {
        let input: &'static str = events.clone().leak();
        let (list, start) = (page(None, &["orchestration-dev"], None), started(support::REQUEST_ID, input));
        let answer = handle(&trigger(&[&list, &start]), &events).await;
        assert_eq!(answer["statusCode"], 200, "an event like any other: {events}");
        assert_eq!(start.num_calls(), 1);
    }
    // As one input, the requests in these records would be lost.
    for events in [batch(&[of_another_queue("")]), batch(&[message("1", ACCEPTED), of_another_queue("")])] {
        let error = trigger(&[]).handle(event(&events)).await.expect_err("records of another queue");
        assert_eq!(error, TriggerError::UnknownQueue);
    }
    let unset = Trigger::new(
        mock_client!(aws_sdk_sfn, RuleMode::Sequential, []),
        StateMachine::Named("orchestration-dev".to_owned()),
        None,
    );
    let error = unset.handle(event(&batch(&[message("1", ACCEPTED)]))).await.expect_err("there is no such queue");
    assert_eq!(error, TriggerError::UnknownQueue);
}
