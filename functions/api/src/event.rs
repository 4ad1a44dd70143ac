//! The event of API Gateway, made ready for `lambda_http`.
//!
//! `lambda_http` makes a request of an event on the word of API Gateway that all of it is well formed. It gives up, or
//! panics, where a client's bytes break that word: a header beyond ASCII, a path or a query that is no URI. The client
//! would get a 500. Here such bytes are spelled so that they pass, and the routes refuse them by name.

use base64::{Engine, prelude::BASE64_STANDARD};
use lambda_http::{
    aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpRequestContext},
    http::{HeaderMap, HeaderName, HeaderValue},
    lambda_runtime::Diagnostic,
    request::LambdaRequest,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

/// What may not stand in a query as it is (RFC 3986 section 3.4). A `%` may: the client has encoded the query.
const IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'[').add(b'\\').add(b']');
const IN_QUERY_TOO: &AsciiSet = &IN_QUERY.add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// What may not stand in a path as it is (RFC 3986 section 3.3). A `%` may not: API Gateway has decoded the path.
const IN_PATH: &AsciiSet = &IN_QUERY_TOO.add(b'%').add(b'?');

/// API Gateway bounds the request line and all headers together to 10,240 bytes
/// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html>), and `http::Uri` itself to
/// 65,534, which each byte encoded as three stays below.
const MAX_TARGET_BYTES: usize = 20_000;

/// The event is not one of an HTTP API: somebody invokes the function by other means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is not of an API Gateway HTTP API, payload format 2.0: functions/api/events has examples")]
pub struct InvalidEvent;

impl From<InvalidEvent> for Diagnostic {
    fn from(error: InvalidEvent) -> Self {
        Self { error_type: "Api.InvalidEvent".to_owned(), error_message: error.to_string() }
    }
}

/// What is taken from an event, in payload format 2.0
/// (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpEvent<'a> {
    #[serde(borrow)]
    raw_path: Cow<'a, str>,
    #[serde(borrow, default)]
    raw_query_string: Cow<'a, str>,
    #[serde(borrow, default)]
    headers: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    request_context: ApiGatewayV2httpRequestContext,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// Reads an event into what `lambda_http` turns into a request without fail.
pub(crate) fn read(event: &RawValue) -> Result<LambdaRequest, InvalidEvent> {
    let event: HttpEvent = serde_json::from_str(event.get()).map_err(|_| InvalidEvent)?;
    let body = event.body.unwrap_or_default();
    let target_bytes = event.raw_path.len() + event.raw_query_string.len();
    if target_bytes > MAX_TARGET_BYTES || (event.is_base64_encoded && BASE64_STANDARD.decode(&*body).is_err()) {
        return Err(InvalidEvent);
    }
    let mut request = ApiGatewayV2httpRequest::default();
    request.raw_path = Some(path(&event.raw_path));
    request.raw_query_string = Some(utf8_percent_encode(&event.raw_query_string, IN_QUERY_TOO).to_string());
    request.headers = headers(&event.headers);
    request.request_context = event.request_context;
    // Without a host the request's URI is its path and query, whatever a client says of the host.
    request.request_context.domain_name = None;
    request.body = Some(body.into_owned());
    request.is_base64_encoded = event.is_base64_encoded;
    Ok(LambdaRequest::ApiGatewayV2(request))
}

/// The path, encoded. One with dot segments is none of ours; `/` takes its place, because whoever parses it as a URL
/// would resolve them, and might so arrive at a route that API Gateway did not see.
fn path(decoded: &str) -> String {
    if !decoded.starts_with('/') || decoded.split('/').any(|segment| segment == "." || segment == "..") {
        return "/".to_owned();
    }
    utf8_percent_encode(decoded, IN_PATH).to_string()
}

/// The headers, but for `Host`. None of the others is dropped for its value, so that a malformed one is refused and
/// not overlooked.
fn headers(headers: &BTreeMap<Cow<'_, str>, Cow<'_, str>>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        let value = value.replace(|c: char| c.is_ascii_control() && c != '\t', "\u{fffd}");
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            // Fails beyond 32,768 headers, which no client gets past API Gateway.
            let _ = map.try_append(name, value);
        }
    }
    map
}
