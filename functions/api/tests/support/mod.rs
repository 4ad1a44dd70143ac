//! What the tests of the routes share: events of the HTTP API in, responses out, each held against `openapi.json`.

// Each test binary uses a part of it.
#![allow(dead_code)]

use api::{Api, OPENAPI, handle, router};
use aws_smithy_mocks::{Rule, RuleMode, mock_client};
use lambda_http::{
    Context, LambdaEvent,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use shared::settings::Environment;
use std::collections::HashMap;

/// A workflow of long ago.
pub(crate) const ID: &str = "019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d";

/// The account of the invoked function, which no answer may show.
pub(crate) const ACCOUNT: &str = "123456789012";

const POST: &str = include_str!("../../events/post.json");
const GET: &str = include_str!("../../events/get.json");

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Response {
    pub(crate) fn body(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// A problem document with this status and type.
    pub(crate) fn assert_problem(&self, status: u16, kind: &str) {
        let problem = self.body();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["type"], format!("/problems/{kind}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].as_str().is_some_and(|detail| detail.len() > 10));
    }
}

/// The routes in front of these AWS services.
pub(crate) fn routes(lambda: aws_sdk_lambda::Client, step_functions: aws_sdk_sfn::Client) -> axum::Router {
    router(api(lambda, step_functions))
}

/// The API of the environment `dev` with these AWS services.
pub(crate) fn api(lambda: aws_sdk_lambda::Client, step_functions: aws_sdk_sfn::Client) -> Api {
    let environment = Environment::read(|_| Some("dev".to_owned())).expect("a name");
    Api::new(lambda, step_functions, &environment)
}

/// The routes in front of mocks that answer in this order.
pub(crate) fn mocked(lambda: &[&Rule], step_functions: &[&Rule]) -> axum::Router {
    let lambda = mock_client!(aws_sdk_lambda, RuleMode::Sequential, lambda);
    routes(lambda, mock_client!(aws_sdk_sfn, RuleMode::Sequential, step_functions))
}

pub(crate) async fn call(lambda: &[&Rule], step_functions: &[&Rule], event: &Value) -> Response {
    send(&mocked(lambda, step_functions), event).await
}

/// Sends one event, and holds the response against the contract.
pub(crate) async fn send(routes: &axum::Router, event: &Value) -> Response {
    let mut context = Context::default();
    context.invoked_function_arn = format!("arn:aws:lambda:us-east-1:{ACCOUNT}:function:api-dev");
    context.deadline = u64::MAX / 2_000_000;
    let payload = serde_json::value::to_raw_value(event).expect("JSON");
    let answer = handle(routes.clone(), LambdaEvent::new(payload, context)).await.expect("an event of an HTTP API");
    let answer = serde_json::to_value(answer).expect("JSON");
    let headers: HashMap<String, String> = serde_json::from_value(answer["headers"].clone()).expect("headers");
    let headers = headers.iter().map(|(name, value)| {
        (name.parse::<HeaderName>().expect("a header"), value.parse::<HeaderValue>().expect("a value"))
    });
    let status = answer["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
    let text = answer["body"].as_str().unwrap_or_default().to_owned();
    assert!(!text.contains(ACCOUNT), "{text}");
    let response = Response { status, headers: headers.collect(), text };
    hold_against_contract(event, &response);
    response
}

/// Fails where `openapi.json` does not describe the response, or describes another.
fn hold_against_contract(event: &Value, response: &Response) {
    let path = event["rawPath"].as_str().expect("a path");
    let method = event["requestContext"]["http"]["method"].as_str().expect("a method").to_lowercase();
    let mut contract: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let is_path = |template: &str| {
        let (template, path) = (template.split('/'), path.split('/'));
        template.clone().count() == path.clone().count()
            && template.zip(path).all(|(t, p)| t == p || t.starts_with('{'))
    };
    let Some(template) = contract["paths"].as_object().expect("paths").keys().find(|t| is_path(t)).cloned() else {
        return response.assert_problem(404, "no-such-route");
    };
    let operation = &contract["paths"][&template][&method];
    if operation.is_null() {
        return response.assert_problem(405, "method-not-allowed");
    }
    let mut described = &operation["responses"][response.status.to_string()];
    if let Some(reference) = described["$ref"].as_str() {
        described = contract.pointer(reference.trim_start_matches('#')).expect("what is referred to");
    }
    assert!(described.is_object(), "{method} {template} does not name the status {}", response.status);
    for (name, header) in described["headers"].as_object().into_iter().flatten() {
        let is_required = header["required"] == true || header["$ref"].is_string();
        assert!(!is_required || response.header(name).is_some(), "{method} {template}: {name} is missing");
    }
    let content_type = response.header("content-type").expect("a content type");
    let schema = described["content"][content_type]["schema"].clone();
    assert!(schema.is_object(), "{method} {template} does not name {content_type}");
    // The whole document, so that references lead somewhere, with this schema at its top.
    contract.as_object_mut().expect("an object").insert("allOf".to_owned(), json!([schema]));
    let validator = jsonschema::draft202012::new(&contract).expect("schemas");
    let body = response.body();
    let errors: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{method} {template}: {errors:?}");
}

/// A POST of `body` to start a workflow.
pub(crate) fn post(content_type: Option<&str>, body: &str) -> Value {
    let mut event: Value = serde_json::from_str(POST).expect("JSON");
    event["body"] = body.into();
    match content_type {
        Some(content_type) => event["headers"]["content-type"] = content_type.into(),
        None => drop(event["headers"].as_object_mut().expect("headers").remove("content-type")),
    }
    event
}

/// A POST of `body` as JSON under a key.
pub(crate) fn keyed(key: &str, body: &str) -> Value {
    let mut event = post(Some("application/json"), body);
    event["headers"]["idempotency-key"] = key.into();
    event
}

/// A request without a body.
pub(crate) fn request(method: &str, path: &str) -> Value {
    let mut event: Value = serde_json::from_str(GET).expect("JSON");
    event["rawPath"] = path.into();
    event["requestContext"]["http"]["path"] = path.into();
    event["requestContext"]["http"]["method"] = method.into();
    event
}

/// A GET of `path`, which may have a query.
pub(crate) fn get(path: &str) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut event = request("GET", path);
    event["rawQueryString"] = query.into();
    event
}
