//! The routes against a mocked Lambda and a mocked Step Functions: gateway events in, responses out.

use api::{Api, answer, router};
use aws_sdk_lambda::{
    config::{Region, retry::RetryConfig},
    operation::invoke::InvokeOutput,
};
use aws_sdk_sfn::{
    operation::{
        describe_execution::{DescribeExecutionError, DescribeExecutionOutput},
        get_execution_history::GetExecutionHistoryOutput,
    },
    primitives::DateTime,
    types::{
        ExecutionStatus, HistoryEvent, HistoryEventType, StateEnteredEventDetails, StateExitedEventDetails,
        TaskFailedEventDetails, error::ExecutionDoesNotExist,
    },
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use lambda_http::{Body, Context, Request, RequestExt, Response, request};
use serde_json::{Value, json};
use shared::{WorkflowId, payload::MAX_BYTES, settings::Environment};

const POST: &str = include_str!("../events/post.json");
const GET: &str = include_str!("../events/get.json");
const ID: &str = "019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d";

async fn call(lambda: &[&Rule], step_functions: &[&Rule], event: &Value) -> Response<Body> {
    serve(mock_client!(aws_sdk_lambda, RuleMode::Sequential, lambda), step_functions, event).await
}

async fn serve(lambda: aws_sdk_lambda::Client, step_functions: &[&Rule], event: &Value) -> Response<Body> {
    let step_functions = mock_client!(aws_sdk_sfn, RuleMode::Sequential, step_functions);
    let environment = Environment::read(|_| Some("dev".to_owned())).expect("a name");
    let routes = router(Api::new(lambda, step_functions, &environment));
    let mut context = Context::default();
    context.invoked_function_arn.push_str("arn:aws:lambda:us-east-1:123456789012:function:api-dev");
    let request: Request = request::from_str(&event.to_string()).expect("a gateway event");
    answer(routes, request.with_lambda_context(context)).await.expect("an answer")
}

fn post(content_type: Option<&str>, body: &str) -> Value {
    let mut event: Value = serde_json::from_str(POST).expect("JSON");
    event["body"] = body.into();
    match content_type {
        Some(content_type) => event["headers"]["content-type"] = content_type.into(),
        None => drop(event["headers"].as_object_mut().expect("headers").remove("content-type")),
    }
    event
}

fn get(path: &str) -> Value {
    let mut event: Value = serde_json::from_str(GET).expect("JSON");
    event["rawPath"] = path.into();
    event["requestContext"]["http"]["path"] = path.into();
    event
}

fn body(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body()).expect("JSON")
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("text"))
}

/// A problem document with this status and type, and a detail.
fn assert_problem(response: &Response<Body>, status: u16, kind: &str) {
    let problem = body(response);
    assert_eq!(response.status(), status, "{problem}");
    assert_eq!(header(response, "content-type"), Some("application/problem+json"));
    assert_eq!(problem["type"], format!("/problems/{kind}"));
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].as_str().is_some_and(|detail| detail.len() > 10));
}

fn invoked(payload: &'static str) -> Rule {
    mock!(aws_sdk_lambda::Client::invoke)
        .match_requests(move |request| {
            let event = String::from_utf8_lossy(request.payload().expect("a payload").as_ref()).into_owned();
            let (id, rest) = event.strip_prefix(r#"{"workflowId":""#).expect("the id first").split_at(36);
            request.function_name() == Some("trigger-lambda-dev")
                && request.invocation_type().is_some_and(|kind| kind.as_str() == "Event")
                && id.parse::<WorkflowId>().is_ok()
                && rest == format!(r#"","payload":{payload}}}"#)
        })
        .then_output(|| InvokeOutput::builder().status_code(202).build())
}

#[tokio::test]
async fn a_payload_is_handed_on_as_it_came() {
    let payload = r#"{"n": 123456789012345678901234567890.10, "a": 1, "a": 2, "é": "\u00e9"}"#;
    let invoke = invoked(payload);
    let response = call(&[&invoke], &[], &post(Some("application/json"), payload)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(invoke.num_calls(), 1);
    let answer = body(&response);
    let id: WorkflowId = answer["workflowId"].as_str().expect("an id").parse().expect("a workflow id");
    assert_eq!(answer, json!({ "message": "Workflow triggered!", "workflowId": id }));
    assert_eq!(header(&response, "location"), Some(format!("/workflows/{id}").as_str()));
    assert_eq!(header(&response, "content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_body_in_base64_is_the_same_payload() {
    let mut event = post(Some("application/cloudevents+json"), "eyJhIjoxfQ==");
    event["isBase64Encoded"] = true.into();
    let invoke = invoked(r#"{"a":1}"#);
    assert_eq!(call(&[&invoke], &[], &event).await.status(), 200);
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
        assert_problem(&call(&[], &[], &post(content_type, body)).await, status, kind);
    }
    let mut event = post(json, "");
    event.as_object_mut().expect("an event").remove("body");
    assert_problem(&call(&[], &[], &event).await, 400, "invalid-json");
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
        assert_problem(&response, expected, kind);
        assert_eq!(header(&response, "retry-after"), retry_after);
        assert!(!body(&response).to_string().contains("arn:"));
    }
}

#[tokio::test]
async fn a_lambda_that_cannot_be_reached_is_unavailable() {
    let nobody_listens = aws_sdk_lambda::Config::builder()
        .behavior_version_latest()
        .endpoint_url("http://127.0.0.1:1")
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::from_static("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .with_test_defaults()
        .build();
    let lambda = aws_sdk_lambda::Client::from_conf(nobody_listens);
    let response = serve(lambda, &[], &post(Some("application/json"), "{}")).await;
    assert_problem(&response, 503, "unavailable");
}

fn execution(
    status: ExecutionStatus,
) -> aws_sdk_sfn::operation::describe_execution::builders::DescribeExecutionOutputBuilder {
    DescribeExecutionOutput::builder()
        .execution_arn("arn")
        .state_machine_arn("arn")
        .status(status)
        .start_date(DateTime::from_secs(1_773_342_238))
}

#[tokio::test]
async fn a_workflow_is_told_with_its_output() {
    let describe = mock!(aws_sdk_sfn::Client::describe_execution)
        .match_requests(|request| {
            let arn = format!("arn:aws:states:us-east-1:123456789012:execution:orchestration-dev:{ID}");
            request.execution_arn() == Some(&arn)
        })
        .then_output(|| {
            let execution = execution(ExecutionStatus::Succeeded).stop_date(DateTime::from_millis(1_773_342_238_500));
            execution.output(r#"{"n": 1.10}"#).build().expect("all fields are set")
        });
    let response = call(&[], &[&describe], &get(&format!("/workflows/{ID}"))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "retry-after"), None);
    let expected = format!(
        r#"{{"workflowId":"{ID}","status":"SUCCEEDED","startedAt":"2026-03-12T19:03:58Z","stoppedAt":"2026-03-12T19:03:58.5Z","output":{{"n": 1.10}}}}"#
    );
    assert_eq!(String::from_utf8_lossy(response.body()), expected);
}

#[tokio::test]
async fn a_running_and_a_failed_workflow_are_told_apart() {
    let running = mock!(aws_sdk_sfn::Client::describe_execution)
        .then_output(|| execution(ExecutionStatus::Running).build().expect("all fields are set"));
    let response = call(&[], &[&running], &get(&format!("/workflows/{ID}"))).await;
    assert_eq!(header(&response, "retry-after"), Some("1"));
    assert_eq!(body(&response)["status"], "RUNNING");

    let failed = mock!(aws_sdk_sfn::Client::describe_execution).then_output(|| {
        let cause = "no access to arn:aws:lambda:us-east-1:123456789012:function:Task1-dev";
        execution(ExecutionStatus::Failed).error("Lambda.X").cause(cause).build().expect("all fields are set")
    });
    let answer = body(&call(&[], &[&failed], &get(&format!("/workflows/{ID}"))).await);
    assert_eq!((&answer["error"], &answer["cause"]), (&json!("Lambda.X"), &json!("no access to arn:…")));
}

fn unknown() -> Rule {
    mock!(aws_sdk_sfn::Client::describe_execution)
        .then_error(|| DescribeExecutionError::ExecutionDoesNotExist(ExecutionDoesNotExist::builder().build()))
}

#[tokio::test]
async fn a_workflow_that_has_not_started_is_pending_while_it_can_be() {
    let fresh = WorkflowId::mint();
    let response = call(&[], &[&unknown()], &get(&format!("/workflows/{fresh}"))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(body(&response), json!({ "workflowId": fresh, "status": "PENDING" }));
    assert_eq!(header(&response, "retry-after"), Some("1"));
    // Minted long ago, in the far future, and not by the API.
    for id in [ID, "ffffffff-ffff-7fff-bfff-ffffffffffff", "5c3b1c2e-8f0a-4b7e-9d6a-1f2e3d4c5b6a"] {
        assert_problem(&call(&[], &[&unknown()], &get(&format!("/workflows/{id}"))).await, 404, "unknown-workflow");
    }
}

#[tokio::test]
async fn what_is_no_id_is_asked_of_nobody() {
    for id in ["x", "019AB0C1-5A70-7C3E-9A51-6D1C0B3F2E4D", "a b", "%ff", "%00", "é"] {
        for path in [format!("/workflows/{id}"), format!("/workflows/{id}/steps")] {
            assert_problem(&call(&[], &[], &get(&path)).await, 404, "unknown-workflow");
        }
    }
}

#[tokio::test]
async fn other_routes_and_methods_are_problems_too() {
    assert_problem(&call(&[], &[], &get("/")).await, 404, "no-such-route");
    let response = call(&[], &[], &get("/trigger-workflow")).await;
    assert_problem(&response, 405, "method-not-allowed");
    assert_eq!(header(&response, "allow"), Some("POST"));
}

#[tokio::test]
async fn a_throttled_read_may_be_tried_again() {
    let throttled = mock!(aws_sdk_sfn::Client::describe_execution)
        .sequence()
        .http_response(|| {
            let body = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
            aws_sdk_sfn::config::http::HttpResponse::new(400.try_into().expect("a status"), body.into())
        })
        .repeatedly()
        .build();
    let response = call(&[], &[&throttled], &get(&format!("/workflows/{ID}"))).await;
    assert_problem(&response, 429, "throttled");
    assert_eq!(header(&response, "retry-after"), Some("1"));
}

fn event(id: i64, kind: HistoryEventType) -> aws_sdk_sfn::types::builders::HistoryEventBuilder {
    HistoryEvent::builder().id(id).previous_event_id(id - 1).r#type(kind).timestamp(DateTime::from_secs(id))
}

#[tokio::test]
async fn steps_are_told_from_the_whole_history() {
    let entered = |name: &str| StateEnteredEventDetails::builder().name(name).build().expect("a name");
    let exited = |name: &str| StateExitedEventDetails::builder().name(name).build().expect("a name");
    let failure = || {
        let cause = "at arn:aws:lambda:us-east-1:123456789012:function:x";
        TaskFailedEventDetails::builder().resource_type("lambda").resource("invoke").error("Lambda.X").cause(cause)
    };
    let pages = [
        vec![
            event(1, HistoryEventType::ExecutionStarted),
            event(2, HistoryEventType::TaskStateEntered).state_entered_event_details(entered("Task1")),
            event(3, HistoryEventType::TaskScheduled),
            event(4, HistoryEventType::TaskFailed).task_failed_event_details(failure().build().expect("built")),
        ],
        vec![
            event(5, HistoryEventType::TaskScheduled),
            event(6, HistoryEventType::TaskSucceeded),
            event(7, HistoryEventType::TaskStateExited).state_exited_event_details(exited("Task1")),
            event(8, HistoryEventType::TaskStateEntered).state_entered_event_details(entered("Task2")),
            event(9, HistoryEventType::TaskScheduled),
            event(10, HistoryEventType::ExecutionTimedOut),
        ],
    ];
    let [first, second] =
        pages.map(|page| page.into_iter().map(|event| event.build().expect("built")).collect::<Vec<_>>());
    let page = |token: Option<&'static str>, events: Vec<HistoryEvent>, next: Option<&'static str>| {
        mock!(aws_sdk_sfn::Client::get_execution_history)
            .match_requests(move |request| request.next_token() == token)
            .then_output(move || {
                let page = GetExecutionHistoryOutput::builder().set_events(Some(events.clone()));
                page.set_next_token(next.map(str::to_owned)).build().expect("all fields are set")
            })
    };
    let (first, second) = (page(None, first, Some("2")), page(Some("2"), second, None));
    let response = call(&[], &[&first, &second], &get(&format!("/workflows/{ID}/steps"))).await;
    let expected = json!({
        "workflowId": ID,
        "steps": [
            {
                "name": "Task1", "status": "SUCCEEDED", "attempts": 2, "error": "Lambda.X", "cause": "at arn:…",
                "startedAt": "1970-01-01T00:00:02Z", "stoppedAt": "1970-01-01T00:00:07Z",
            },
            {
                "name": "Task2", "status": "TIMED_OUT", "attempts": 1,
                "startedAt": "1970-01-01T00:00:08Z", "stoppedAt": "1970-01-01T00:00:10Z",
            },
        ],
    });
    assert_eq!(body(&response), expected);
}
