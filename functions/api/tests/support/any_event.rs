//! The event handler in front of AWS services that answer everything, for whatever bytes come as an event. The fuzz
//! target uses it too (`functions/api/fuzz`).

use api::{Api, handle, router};
use aws_smithy_http_client::test_util::infallible_client_fn;
use lambda_http::{Context, LambdaEvent, http};
use serde_json::{Value, value::RawValue};
use shared::settings::Environment;

/// The status of the answer to `event`; `None` where it is not an event of an HTTP API.
///
/// # Panics
/// The handler does, or answers with a status that no client's request may lead to.
pub(crate) fn status_of(event: &[u8]) -> Option<u64> {
    let payload: Box<RawValue> = serde_json::from_slice(event).ok()?;
    // Paused, so that ?wait= does not.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let status = runtime.expect("a runtime").block_on(async {
        let mut context = Context::default();
        "arn:aws:lambda:us-east-1:123456789012:function:api-dev".clone_into(&mut context.invoked_function_arn);
        context.deadline = u64::MAX / 2_000_000;
        // By the event, so that the same one always meets the same services.
        let api = api(event.len().is_multiple_of(2));
        let answer = handle(router(api), LambdaEvent::new(payload, context)).await.ok()?;
        serde_json::to_value(answer).expect("JSON")["statusCode"].as_u64()
    })?;
    assert!((200..500).contains(&status), "{status}");
    Some(status)
}

/// The API in front of services where `workflows` tells whether every workflow or none has started.
fn api(workflows: bool) -> Api {
    let http = infallible_client_fn(move |request: http::Request<_>| {
        let operation = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
        let operation = operation.and_then(|target| target.strip_prefix("AWSStepFunctions.")).unwrap_or("Invoke");
        let (status, body) = match operation {
            "Invoke" => (202, ""),
            "ListExecutions" => (200, r#"{"executions":[]}"#),
            _ if !workflows => (400, r#"{"__type":"ExecutionDoesNotExist"}"#),
            "DescribeExecution" => {
                (200, r#"{"executionArn":"a","stateMachineArn":"a","status":"RUNNING","startDate":1,"input":"{}"}"#)
            }
            "GetExecutionHistory" => (200, r#"{"events":[]}"#),
            "StopExecution" => (200, r#"{"stopDate":1}"#),
            _ => (400, r#"{"__type":"ExecutionNotRedrivable"}"#),
        };
        http::Response::builder().status(status).body(body).expect("a response")
    });
    macro_rules! client {
        ($sdk:ident) => {{
            let config =
                $sdk::Config::builder().behavior_version_latest().http_client(http.clone()).with_test_defaults();
            let config = config.region($sdk::config::Region::from_static("us-east-1"));
            $sdk::Client::from_conf(config.build())
        }};
    }
    let environment = Environment::read(|_| Some("dev".to_owned())).expect("a name");
    Api::new(client!(aws_sdk_lambda), client!(aws_sdk_sfn), &environment)
}

/// An event with these parts of a request, the others as API Gateway makes them.
pub(crate) fn event(method: &str, path: &str, query: &str, headers: &[(String, String)], body: &str) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../events/post.json")).expect("JSON");
    event["rawPath"] = path.into();
    event["rawQueryString"] = query.into();
    event["requestContext"]["http"]["method"] = method.into();
    for (name, value) in headers {
        event["headers"][name.to_lowercase()] = value.as_str().into();
    }
    event["body"] = body.into();
    event
}
