//! The HTTP front, in place of an API Gateway HTTP API: requests become events of payload format 2.0, and answers
//! become responses (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>).

use crate::{
    ACCOUNT,
    lambda::{Invocation, Lambda, Outcome},
    template::Route,
};
use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{ConnectInfo, RawPathParams, Request, rejection::RawPathParamsRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::any,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

/// The largest body that API Gateway takes, in bytes
/// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html>).
const MAX_BODY_BYTES: usize = 10 * 1_024 * 1_024;

/// How long API Gateway waits for a function (same page).
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The methods that a route of an HTTP API may have.
const METHODS: [&str; 8] = ["ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// Whether the routes can be served side by side. [`router`] panics on those that cannot.
///
/// # Errors
/// A route has a method or a path that cannot be served, or stands in another's way.
pub fn check(routes: &[Route]) -> Result<(), String> {
    let mut keys = BTreeSet::new();
    let mut paths = BTreeSet::new();
    let mut matcher = matchit::Router::new();
    for route in routes {
        let key = route.key();
        if !METHODS.contains(&route.method.as_str()) {
            return Err(format!("the route {key}: {} is no method of an HTTP API", route.method));
        }
        if route.path != "$default" && !route.path.starts_with('/') {
            return Err(format!("the route {key}: its path must begin with /"));
        }
        if paths.insert(&route.path) {
            let inserted = matcher.insert(axum_path(&route.path), ());
            inserted.map_err(|error| format!("the route {key}: {error}"))?;
        }
        if !keys.insert(key.clone()) {
            return Err(format!("the route {key} is there twice"));
        }
    }
    Ok(())
}

/// Serves the template's routes, each by its function.
pub fn router(routes: &[Route], lambda: &Lambda) -> Router {
    let mut default = None;
    let mut paths = BTreeMap::<_, BTreeMap<_, _>>::new();
    for route in routes {
        let integration = Integration::new(route, lambda);
        if route.path == "$default" {
            default = Some(integration);
        } else {
            paths.entry(&route.path).or_default().insert(route.method.clone(), integration);
        }
    }
    let mut router = Router::new().without_v07_checks();
    for (path, methods) in paths {
        let default = default.clone();
        let serve = async move |params: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            // A path that is no UTF-8 has no parameters to hand on; the function still gets the path.
            let params = params.iter().flatten().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            // Not axum's own choice by method: its GET takes HEAD, and it answers 405, which API Gateway does not have.
            match methods.get(request.method().as_str()).or_else(|| methods.get("ANY")) {
                Some(integration) => integration.serve(params, request).await,
                None => elsewhere(default.as_ref(), request).await,
            }
        };
        router = router.route(&axum_path(path), any(serve));
    }
    router.fallback(async move |request: Request| elsewhere(default.as_ref(), request).await)
}

/// Serves what no route takes.
async fn elsewhere(default: Option<&Integration>, request: Request) -> Response {
    match default {
        Some(integration) => integration.serve(vec![], request).await,
        None => message(StatusCode::NOT_FOUND, "Not Found"),
    }
}

/// The path with `{name+}`, which takes the rest of a path, in axum's spelling.
fn axum_path(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.strip_prefix('{').and_then(|s| s.strip_suffix("+}")) {
        Some(name) => format!("{{*{name}}}"),
        None => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// A route and the function behind it.
#[derive(Clone, Debug)]
struct Integration {
    route_key: String,
    function: String,
    lambda: Lambda,
}

impl Integration {
    fn new(route: &Route, lambda: &Lambda) -> Self {
        Self { route_key: route.key(), function: route.function.clone(), lambda: lambda.clone() }
    }

    async fn serve(&self, params: Vec<(String, String)>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        if reqwest::Url::parse(&format!("http://{host}/")).is_err() {
            return message(StatusCode::BAD_REQUEST, "Bad Request");
        }
        let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
            return message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        };
        let source = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|source| source.0.ip().to_string());
        let event = self.event(&parts, host, &source.unwrap_or_default(), params, &body);
        let invocation = Invocation::new(event.to_string().into()).traced(&parts.headers);
        let invoked = self.lambda.invoke(&self.function, &invocation);
        match tokio::time::timeout(INTEGRATION_TIMEOUT, invoked).await {
            Ok(Some(Outcome::Answer(answer))) => response(&answer),
            Ok(Some(Outcome::Failure(_)) | None) => message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
            Err(_) => message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        }
    }

    fn event(
        &self,
        Parts { method, uri, headers, .. }: &Parts,
        host: &str,
        source: &str,
        params: Vec<(String, String)>,
        body: &Bytes,
    ) -> Value {
        // An HTTP API hands the path on decoded.
        let path = percent_decode_str(uri.path()).decode_utf8_lossy();
        let now = Timestamp::now();
        let text = |name: HeaderName| headers.get(name).map_or(Value::Null, |value| lossy(value).into());
        let mut event = json!({
            "version": "2.0",
            "routeKey": self.route_key,
            "rawPath": path,
            "rawQueryString": uri.query().unwrap_or(""),
            "headers": event_headers(headers, host, source),
            "requestContext": {
                "accountId": ACCOUNT,
                "apiId": "local",
                "domainName": host,
                "domainPrefix": "local",
                "http": {
                    "method": method.as_str(),
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": source,
                    "userAgent": text(header::USER_AGENT),
                },
                "requestId": uuid::Uuid::new_v4().simple().to_string(),
                "routeKey": self.route_key,
                "stage": "$default",
                "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
                "timeEpoch": now.as_millisecond(),
            },
            "isBase64Encoded": false,
        });
        if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
            event["queryStringParameters"] = query_parameters(query).into();
        }
        if !params.is_empty() {
            event["pathParameters"] = params.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        }
        let cookies = headers.get_all(header::COOKIE).iter().map(lossy);
        let cookies: Vec<String> =
            cookies.flat_map(|line| line.split("; ").map(str::to_owned).collect::<Vec<_>>()).collect();
        if !cookies.is_empty() {
            event["cookies"] = cookies.into();
        }
        if !body.is_empty() {
            let content_type = text(header::CONTENT_TYPE);
            match std::str::from_utf8(body) {
                Ok(body) if is_text(content_type.as_str().unwrap_or("")) => event["body"] = body.into(),
                _ => {
                    event["body"] = BASE64_STANDARD.encode(body).into();
                    event["isBase64Encoded"] = true.into();
                }
            }
        }
        event
    }
}

/// The headers by their names in lower case, those of one name joined by commas, cookies apart, and what API Gateway
/// adds of its own.
fn event_headers(headers: &HeaderMap, host: &str, source: &str) -> BTreeMap<String, String> {
    let mut joined = BTreeMap::<String, String>::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != header::COOKIE) {
        let value = lossy(value);
        joined.entry(name.to_string()).and_modify(|all| *all = format!("{all},{value}")).or_insert(value);
    }
    joined.insert("host".to_owned(), host.to_owned());
    joined.insert("x-forwarded-for".to_owned(), source.to_owned());
    joined.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    joined.insert("x-forwarded-port".to_owned(), host.rsplit_once(':').map_or("80", |(_, port)| port).to_owned());
    joined
}

/// The query decoded, values of one name joined by commas.
fn query_parameters(query: &str) -> Map<String, Value> {
    let mut parameters = Map::new();
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        let joined = match parameters.get(&decode(name)).and_then(Value::as_str) {
            Some(before) => format!("{before},{value}"),
            None => value,
        };
        parameters.insert(decode(name), joined.into());
    }
    parameters
}

/// Whether API Gateway passes a body of this type on as text; every other body is encoded in base64.
fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || ["application/json", "application/javascript", "application/xml"].contains(&essence.as_str())
}

/// What a function may answer with. Without a `statusCode` the whole answer is the body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    cookies: Vec<String>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

fn response(answer: &Bytes) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    match serde_json::from_slice::<Value>(answer) {
        Ok(Value::Object(object)) if object.contains_key("statusCode") => match formatted(Value::Object(object)) {
            Some(response) => response,
            None => message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        },
        Ok(_) => (json, answer.clone()).into_response(),
        Err(_) => message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
    }
}

/// The response that `answer` describes; `None` when it is malformed.
fn formatted(answer: Value) -> Option<Response> {
    let answer: Answer = serde_json::from_value(answer).ok()?;
    let body = answer.body.unwrap_or_default();
    let body = if answer.is_base64_encoded { BASE64_STANDARD.decode(body).ok()? } else { body.into_bytes() };
    let mut response = (StatusCode::from_u16(answer.status_code).ok()?, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
    for (name, value) in answer.headers {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        headers.insert(name.parse::<HeaderName>().ok()?, value.parse().ok()?);
    }
    for cookie in answer.cookies {
        headers.append(header::SET_COOKIE, cookie.parse().ok()?);
    }
    Some(response)
}

/// An answer of API Gateway's own.
fn message(status: StatusCode, message: &str) -> Response {
    let body = json!({ "message": message }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lambda::Log,
        template::{Asynchronous, Function},
    };
    use axum::body::Body;
    use std::{path::Path, sync::Arc};
    use tower::ServiceExt;

    /// These routes in front of a function that answers with its event and no `statusCode`.
    fn front(routes: &[(&str, &str)]) -> Router {
        let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions");
        let binary = code.join("any.py");
        let function = Function {
            logical_id: "Any".to_owned(),
            name: "any".to_owned(),
            code,
            timeout: Duration::from_secs(10),
            memory: 128,
            variables: BTreeMap::new(),
            json_log: false,
            asynchronous: Asynchronous { retries: 0, max_age: Duration::ZERO, on_failure: None },
        };
        let sqs = aws_sdk_sqs::Config::builder().behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest());
        let sqs = aws_sdk_sqs::Client::from_conf(sqs.build());
        let log: Log = Arc::new(|_: &str, _: &str| {});
        let functions = vec![(function, binary)];
        let lambda = Lambda::new(functions, &BTreeMap::new(), [Duration::ZERO; 2], sqs, &log);
        let routes = routes.iter().map(|(method, path)| Route {
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            function: "any".to_owned(),
        });
        let routes: Vec<_> = routes.collect();
        check(&routes).expect("routes that can be served");
        router(&routes, &lambda)
    }

    async fn call(front: &Router, request: Request) -> (StatusCode, Value) {
        let response = front.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_BODY_BYTES).await.expect("a body");
        (parts.status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_request_becomes_an_event_of_payload_format_2() {
        let front = front(&[("ANY", "/{id}")]);
        let request = |headers: &[(&str, &str)], body: &[u8]| {
            let request =
                headers.iter().fold(Request::post("/a%20b?x=1&y=%C3%A9+&x=2&z"), |r, (k, v)| r.header(*k, *v));
            request.body(Body::from(body.to_vec())).expect("a request")
        };
        let json = ("content-type", "application/json; charset=utf-8");
        for (headers, body, expected) in [
            (
                [("host", "h:5000"), ("x-a", "1"), ("x-a", "2"), json].as_slice(),
                b"{}".as_slice(),
                json!({
                    "/version": "2.0",
                    "/routeKey": "ANY /{id}",
                    "/rawPath": "/a b",
                    "/rawQueryString": "x=1&y=%C3%A9+&x=2&z",
                    "/queryStringParameters": { "x": "1,2", "y": "é ", "z": "" },
                    "/pathParameters": { "id": "a b" },
                    "/headers/x-a": "1,2",
                    "/headers/x-forwarded-port": "5000",
                    "/cookies": null,
                    "/body": "{}",
                    "/isBase64Encoded": false,
                    "/requestContext/http/method": "POST",
                    "/requestContext/domainName": "h:5000",
                }),
            ),
            (
                &[("cookie", "a=1; b=2"), ("cookie", "c=3"), json],
                b"",
                json!({ "/cookies": ["a=1", "b=2", "c=3"], "/headers/cookie": null, "/body": null }),
            ),
            (&[], b"{}", json!({ "/body": "e30=", "/isBase64Encoded": true })),
            (&[json], b"\xff", json!({ "/body": "/w==", "/isBase64Encoded": true })),
            (&[("content-type", "image/png")], b"x", json!({ "/body": "eA==", "/isBase64Encoded": true })),
        ] {
            let (status, answer) = call(&front, request(headers, body)).await;
            assert_eq!(status, 200);
            for (pointer, value) in expected.as_object().expect("pointers") {
                let seen = answer["event"].pointer(pointer).unwrap_or(&Value::Null);
                assert_eq!(seen, value, "{pointer} of {}", answer["event"]);
            }
        }
    }

    #[tokio::test]
    async fn a_request_goes_to_the_route_that_api_gateway_chooses() {
        let routes = [("GET", "/a"), ("ANY", "/a/{x}"), ("GET", "/a/{x}"), ("POST", "/b/{rest+}")];
        let none = front(&routes);
        let default = front(&[routes.as_slice(), &[("ANY", "$default")]].concat());
        for (method, path, expected, params) in [
            ("GET", "/a", "GET /a", Value::Null),
            ("HEAD", "/a", "", Value::Null),
            ("POST", "/a", "", Value::Null),
            ("GET", "/a/1", "GET /a/{x}", json!({ "x": "1" })),
            ("HEAD", "/a/1", "ANY /a/{x}", Value::Null),
            ("PUT", "/a/1", "ANY /a/{x}", json!({ "x": "1" })),
            ("POST", "/b/1/2", "POST /b/{rest+}", json!({ "rest": "1/2" })),
            ("POST", "/b", "", Value::Null),
        ] {
            let request = || Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
            let (status, answer) = call(&default, request()).await;
            let key = if expected.is_empty() { "$default" } else { expected };
            assert_eq!(status, 200, "{method} {path}");
            // The answer to HEAD has no body.
            if method != "HEAD" {
                assert_eq!(answer["event"]["routeKey"], key, "{method} {path}");
                assert_eq!(answer["event"]["pathParameters"], params, "{method} {path}");
            }
            let (status, _) = call(&none, request()).await;
            assert_eq!(status == 404, expected.is_empty(), "{method} {path}");
        }
    }

    #[tokio::test]
    async fn an_answer_becomes_a_response() {
        let text = "text/plain;charset=UTF-8";
        for (answer, status, content_type, body) in [
            (json!({ "statusCode": 201, "body": "é" }), 201, text, "é"),
            (json!({ "statusCode": 200 }), 200, text, ""),
            (json!({ "statusCode": 200, "body": "w6k=", "isBase64Encoded": true }), 200, text, "é"),
            (json!({ "statusCode": 200, "headers": { "Content-Type": "a/b" }, "body": "x" }), 200, "a/b", "x"),
            (json!({ "a": 1 }), 200, "application/json", r#"{"a":1}"#),
            (json!("x"), 200, "application/json", r#""x""#),
        ] {
            let response = response(&answer.to_string().into());
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (status, &content_type.parse().expect("a value"))
            );
            assert_eq!(to_bytes(response.into_body(), 100).await.expect("a body"), body.as_bytes(), "{answer}");
        }
        let answer = json!({ "statusCode": 200, "headers": { "x-number": 1 }, "cookies": ["a=1; Secure", "b=2"] });
        let headers = response(&answer.to_string().into()).headers().clone();
        assert_eq!(headers["x-number"], "1");
        assert_eq!(headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1; Secure", "b=2"]);
        for malformed in [
            r#"{"statusCode":"x"}"#,
            r#"{"statusCode":1}"#,
            r#"{"statusCode":200,"body":"?","isBase64Encoded":true}"#,
            "x",
        ] {
            assert_eq!(response(&malformed.into()).status(), 500, "{malformed}");
        }
    }
}
