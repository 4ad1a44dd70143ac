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
        let invocation = Invocation::new(event.to_string().into());
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
