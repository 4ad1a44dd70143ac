//! `POST /trigger-workflow` against a mocked Lambda and a mocked Step Functions.

mod support;

use aws_sdk_lambda::{
    config::{Region, retry::RetryConfig},
    operation::invoke::InvokeOutput,
};
use aws_sdk_sfn::{
    operation::describe_execution::{DescribeExecutionError, DescribeExecutionOutput},
    primitives::DateTime,
    types::{ExecutionStatus, error::ExecutionDoesNotExist},
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use serde_json::json;
use shared::{WorkflowId, aws, https::Connector, payload::MAX_BYTES};
use std::time::Duration;
use support::{api, call, keyed, mocked, post, routes, send};

fn invoked(payload: &'static str) -> Rule {
    mock!(aws_sdk_lambda::Client::invoke)
        .match_requests(move |request| {
            let event = String::from_utf8_lossy(request.payload().expect("a payload").as_ref()).into_owned();
            let (id, rest) = event.strip_prefix(r#"{"workflowId":""#).expect("the id first").split_at(36);
            request.function_name() == Some("trigger-lambda-dev")
                && request.invocation_type().is_some_and(|kind| kind.as_str() == "Event")
                && id.parse::<WorkflowId>().is_ok()
                && rest == format!(r#"","payload":{}}}"#, json!(payload))
        })
        .then_output(|| InvokeOutput::builder().status_code(202).build())
}

#[tokio::test]
async fn init_invokes_nothing() {
    for outcome in [Ok(204), Err(403), Err(500)] {
        // Without a payload: an emulator that knows no dry run has no event for the trigger then.
        let dry = mock!(aws_sdk_lambda::Client::invoke).match_requests(|request| {
            request.function_name() == Some("trigger-lambda-dev")
                && request.invocation_type().is_some_and(|kind| kind.as_str() == "DryRun")
                && request.payload().is_none()
        });
        let dry = match outcome {
            Ok(status) => dry.then_output(move || InvokeOutput::builder().status_code(status).build()),
            Err(status) => dry.then_http_response(move || {
                let status = status.try_into().expect("a status");
                aws_sdk_lambda::config::http::HttpResponse::new(status, "{}".into())
            }),
        };
        let lambda = mock_client!(aws_sdk_lambda, RuleMode::Sequential, &[&dry], |config| config
            .retry_config(RetryConfig::disabled()));
        api(lambda, mock_client!(aws_sdk_sfn, RuleMode::Sequential, &[])).connect().await;
        assert_eq!(dry.num_calls(), 1, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_payload_is_handed_on_as_it_came() {
    let payload = r#"{"n": 123456789012345678901234567890.10, "a": 1, "a": 2, "é": "\u00e9"}"#;
    let invoke = invoked(payload);
    let response = call(&[&invoke], &[], &post(Some("application/json"), payload)).await;
    assert_eq!(response.status, 200);
    assert_eq!(invoke.num_calls(), 1);
    let answer = response.body();
    let id: WorkflowId = answer["workflowId"].as_str().expect("an id").parse().expect("a workflow id");
    assert_eq!(answer, json!({ "message": "Workflow triggered!", "workflowId": id }));
    assert_eq!(response.header("location"), Some(format!("/workflows/{id}").as_str()));
    assert_eq!(response.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_body_in_base64_is_the_same_payload() {
    let mut event = post(Some("application/cloudevents+json"), "eyJhIjoxfQ==");
    event["isBase64Encoded"] = true.into();
    let invoke = invoked(r#"{"a":1}"#);
    assert_eq!(call(&[&invoke], &[], &event).await.status, 200);
}

#[tokio::test]
async fn what_is_no_payload_is_refused_and_invokes_nothing() {
    let (json, large) = (Some("application/json"), format!("\"{}\"", "x".repeat(MAX_BYTES)));
    for (content_type, body, status, kind) in [
        (json, "", 400, "invalid-json"),
        (json, "{", 400, "invalid-json"),
        (json, "key=value", 400, "invalid-json"),
        (json, "1e999", 400, "invalid-json"),
        (None, "{}", 415, "unsupported-media-type"),
        (Some("text/plain"), "{}", 415, "unsupported-media-type"),
        (json, large.as_str(), 413, "payload-too-large"),
    ] {
        call(&[], &[], &post(content_type, body)).await.assert_problem(status, kind);
    }
    let mut event = post(json, "");
    event.as_object_mut().expect("an event").remove("body");
    call(&[], &[], &event).await.assert_problem(400, "invalid-json");
}

#[tokio::test]
async fn failures_of_lambda_have_answers_of_their_own() {
    let status = |status: u16, code: &'static str| {
        mock!(aws_sdk_lambda::Client::invoke)
            .sequence()
            .http_response(move || {
                let status = status.try_into().expect("a status");
                let body = r#"{"Message":"arn:aws:lambda:us-east-1:123456789012:function:x"}"#;
                let mut response = aws_sdk_lambda::config::http::HttpResponse::new(status, body.into());
                response.headers_mut().insert("x-amzn-errortype", code);
                response
            })
            .repeatedly()
            .build()
    };
    for (rule, expected, kind, retry_after) in [
        (status(429, "TooManyRequestsException"), 429, "throttled", Some("1")),
        (status(404, "ResourceNotFoundException"), 500, "internal", None),
        (status(403, "AccessDeniedException"), 500, "internal", None),
        (status(500, "ServiceException"), 503, "unavailable", Some("1")),
    ] {
        let response = call(&[&rule], &[], &post(Some("application/json"), "{}")).await;
        response.assert_problem(expected, kind);
        assert_eq!(response.header("retry-after"), retry_after);
        assert!(!response.text.contains("arn:"));
    }
}

#[tokio::test]
async fn a_lambda_that_cannot_be_reached_is_unavailable() {
    let connector = Connector::new(|_| None, Duration::from_secs(1)).expect("certificates");
    let nobody_listens = aws_sdk_lambda::Config::builder()
        .behavior_version_latest()
        .endpoint_url("http://127.0.0.1:1")
        .http_client(aws::http_client(&connector))
        .region(Region::from_static("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .with_test_defaults()
        .build();
    let lambda = aws_sdk_lambda::Client::from_conf(nobody_listens);
    let response = send(&routes(lambda, mock_client!(aws_sdk_sfn, [])), &post(Some("application/json"), "{}")).await;
    response.assert_problem(503, "unavailable");
}

fn execution_of(input: &'static str) -> Rule {
    mock!(aws_sdk_sfn::Client::describe_execution).then_output(move || {
        let execution = DescribeExecutionOutput::builder().execution_arn("arn").state_machine_arn("arn").input(input);
        let execution = execution.status(ExecutionStatus::Running).start_date(DateTime::from_secs(1_773_342_238));
        execution.build().expect("all fields are set")
    })
}

fn no_execution() -> Rule {
    mock!(aws_sdk_sfn::Client::describe_execution)
        .then_error(|| DescribeExecutionError::ExecutionDoesNotExist(ExecutionDoesNotExist::builder().build()))
}

#[tokio::test]
async fn a_key_determines_the_workflow() {
    let mut ids = vec![];
    for key in ["order-1", "\"order-1\"", " order-1 ", "order-2"] {
        let response = call(&[&invoked("{}")], &[&no_execution()], &keyed(key, "{}")).await;
        assert_eq!((response.status, response.header("idempotency-replayed")), (200, None));
        ids.push(response.body()["workflowId"].as_str().expect("an id").to_owned());
    }
    assert!(ids[0] == ids[1] && ids[0] == ids[2] && ids[0] != ids[3], "{ids:?}");
    assert_eq!(ids[0], "ac8c7f48-b155-8650-8c3b-c1ce9f1969f2", "the id of a key never changes: executions have it");
}

#[tokio::test]
async fn a_key_is_the_callers_own() {
    let mut ids = vec![];
    for authorizer in [
        json!(null),
        json!({ "iam": { "userArn": "arn:aws:iam::123456789012:user/a" } }),
        json!({ "iam": { "userArn": "arn:aws:iam::123456789012:user/b" } }),
        json!({ "jwt": { "claims": { "sub": "a" }, "scopes": null } }),
        json!({ "jwt": { "claims": { "sub": "b" }, "scopes": null } }),
    ] {
        let mut event = keyed("order-1", "{}");
        event["requestContext"]["authorizer"] = authorizer;
        let response = call(&[&invoked("{}")], &[&no_execution()], &event).await;
        ids.push(response.body()["workflowId"].as_str().expect("an id").to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn a_key_that_was_used_is_replayed_or_refused() {
    let (absent, started) = (no_execution(), execution_of(r#"{"a": 1}"#));
    let invoke = invoked(r#"{"a": 1}"#);
    let routes = mocked(&[&invoke], &[&absent, &started]);
    // Another body, while the first is on its way.
    assert_eq!(send(&routes, &keyed("k", r#"{"a": 1}"#)).await.status, 200);
    // The mock of Step Functions has `started` from here on.
    let replayed = send(&routes, &keyed("k", r#" {"a": 1} "#)).await;
    assert_eq!((replayed.status, replayed.header("idempotency-replayed")), (200, Some("true")));
    // From here on nobody is asked: an execution never gets another input.
    assert_eq!(send(&routes, &keyed("k", r#"{"a": 1}"#)).await.header("idempotency-replayed"), Some("true"));
    send(&routes, &keyed("k", r#"{"a":1}"#)).await.assert_problem(422, "idempotency-key-reused");
    assert_eq!((invoke.num_calls(), started.num_calls()), (1, 1));
}

#[tokio::test]
async fn a_second_body_is_refused_before_the_first_has_started() {
    let routes = mocked(&[&invoked("1")], &[&no_execution(), &no_execution(), &execution_of("2")]);
    assert_eq!(send(&routes, &keyed("k", "1")).await.status, 200);
    send(&routes, &keyed("k", "2")).await.assert_problem(422, "idempotency-key-reused");
    // What started decides, where another process took the other body first.
    assert_eq!(send(&routes, &keyed("k", "2")).await.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn a_malformed_key_is_refused() {
    for key in ["", "\"", "\"\"", "a b", "\"a b\"", "\"a\", \"b\"", "\"a\\n\"", "é", "\"a\"b", "\u{7f}", "a\u{1}"] {
        call(&[], &[], &keyed(key, "{}")).await.assert_problem(400, "invalid-idempotency-key");
    }
    for key in ["a".repeat(256), format!("\"{}\"", "a".repeat(256))] {
        call(&[], &[], &keyed(&key, "{}")).await.assert_problem(400, "invalid-idempotency-key");
    }
    for key in ["a".repeat(255), format!("\"{}\"", "a".repeat(255)), "\"\\\\\\\"\"".to_owned(), "a,b".to_owned()] {
        assert_eq!(call(&[&invoked("{}")], &[&no_execution()], &keyed(&key, "{}")).await.status, 200, "{key}");
    }
}

#[tokio::test]
async fn a_body_that_was_not_accepted_does_not_take_the_key() {
    let denied = mock!(aws_sdk_lambda::Client::invoke).sequence().http_status(403, None).build();
    let routes = mocked(&[&denied, &invoked("2")], &[&no_execution(), &no_execution()]);
    send(&routes, &keyed("k", "1")).await.assert_problem(500, "internal");
    assert_eq!(send(&routes, &keyed("k", "2")).await.status, 200);
}
