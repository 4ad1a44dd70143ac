//! Lambda's `Invoke` over HTTP (<https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>).

use super::{Invocation, Lambda, MAX_ASYNCHRONOUS_BYTES, MAX_SYNCHRONOUS_BYTES, Outcome};
use crate::{ACCOUNT, REGION};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::de::IgnoredAny;
use serde_json::Value;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");

/// The route of `Invoke`, for functions by their names or ARNs.
pub fn routes(lambda: Lambda) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{function}/invocations", post(invoke))
        // Twice the largest event that passes: larger ones are refused below with Lambda's own error.
        .layer(DefaultBodyLimit::max(2 * MAX_SYNCHRONOUS_BYTES))
        .with_state(lambda)
}

async fn invoke(
    State(lambda): State<Lambda>,
    Path(function): Path<String>,
    headers: HeaderMap,
    event: Bytes,
) -> Response {
    let event = if event.is_empty() { Bytes::from_static(b"{}") } else { event };
    let mut invocation = Invocation::new(event).traced(&headers);
    let request_id = HeaderValue::from_str(&invocation.request_id);
    let kind = headers.get("x-amz-invocation-type").and_then(|kind| kind.to_str().ok());
    let response = match headers.get("x-amz-client-context").map(client_context).transpose() {
        Ok(context) => {
            invocation.client_context = context;
            carry_out(&lambda, &function, kind.unwrap_or("RequestResponse"), invocation).await
        }
        Err(refusal) => Err(refusal),
    };
    let mut response = response.unwrap_or_else(Refusal::into_response);
    if let Ok(request_id) = request_id {
        response.headers_mut().insert(REQUEST_ID, request_id);
    }
    response
}

async fn carry_out(lambda: &Lambda, function: &str, kind: &str, invocation: Invocation) -> Result<Response, Refusal> {
    let name = function_name(function).filter(|name| lambda.functions.contains_key(*name));
    let name = name.ok_or_else(|| Refusal::not_found(function))?;
    let limit = if kind == "Event" { MAX_ASYNCHRONOUS_BYTES } else { MAX_SYNCHRONOUS_BYTES };
    let size = invocation.event.len();
    if size > limit {
        return Err(Refusal::too_large(size, limit));
    }
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(&invocation.event) {
        return Err(Refusal::not_json(&error));
    }
    match kind {
        "RequestResponse" => {
            let outcome = lambda.invoke(name, &invocation).await.ok_or_else(|| Refusal::not_found(function))?;
            let headers = [(header::CONTENT_TYPE, "application/json"), (EXECUTED_VERSION, "$LATEST")];
            Ok(match outcome {
                Outcome::Answer(body) => (headers, body).into_response(),
                Outcome::Failure(body) => (headers, [(FUNCTION_ERROR, "Unhandled")], body).into_response(),
            })
        }
        "Event" if lambda.enqueue(name, invocation) => Ok(StatusCode::ACCEPTED.into_response()),
        "Event" => Err(Refusal::not_found(function)),
        "DryRun" => Ok(StatusCode::NO_CONTENT.into_response()),
        kind => Err(Refusal::invocation_type(kind)),
    }
}

/// The client context as JSON in one line, as it goes into a header of the Runtime API.
fn client_context(header: &HeaderValue) -> Result<String, Refusal> {
    let context = BASE64_STANDARD.decode(header).map_err(|error| Refusal::client_context(&error))?;
    let context: Value = serde_json::from_slice(&context).map_err(|error| Refusal::client_context(&error))?;
    Ok(context.to_string())
}

/// The name in what a caller may write for a function: a name, a partial or a whole ARN, each with `:$LATEST` or not.
/// There are no other versions here, and no aliases.
fn function_name(reference: &str) -> Option<&str> {
    let parts: Vec<&str> = reference.split(':').collect();
    let (name, qualifier) = match parts.as_slice() {
        [name] => (*name, None),
        [name, qualifier] => (*name, Some(*qualifier)),
        [ACCOUNT, "function", name, rest @ ..] | ["arn", _, "lambda", REGION, ACCOUNT, "function", name, rest @ ..]
            if rest.len() < 2 =>
        {
            (*name, rest.first().copied())
        }
        _ => return None,
    };
    matches!(qualifier, None | Some("$LATEST")).then_some(name)
}

/// An error of the service itself.
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refusal {
    fn not_found(function: &str) -> Self {
        let arn =
            format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", function.rsplit(':').next().unwrap_or(function));
        Self {
            status: StatusCode::NOT_FOUND,
            kind: "ResourceNotFoundException",
            message: format!("Function not found: {arn}"),
        }
    }

    fn too_large(size: usize, limit: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            kind: "RequestTooLargeException",
            message: format!("{size} byte payload is too large for the invocation type (limit {limit} bytes)"),
        }
    }

    fn not_json(error: &serde_json::Error) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "InvalidRequestContentException",
            message: format!("Could not parse request body into json: {error}"),
        }
    }

    fn client_context(error: &dyn std::error::Error) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "InvalidRequestContentException",
            message: format!("Client context must be a valid Base64-encoded JSON object: {error}"),
        }
    }

    fn invocation_type(kind: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "InvalidParameterValueException",
            message: format!("{kind} is no invocation type: Event, RequestResponse and DryRun are"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "Type": "User", "Message": self.message });
        let headers = [(header::CONTENT_TYPE, "application/json"), (ERROR_TYPE, self.kind)];
        (self.status, headers, body.to_string()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_goes_by_its_name_or_its_arns() {
        for reference in [
            "api-dev",
            "api-dev:$LATEST",
            "123456789012:function:api-dev",
            "arn:aws:lambda:us-east-1:123456789012:function:api-dev",
            "arn:aws:lambda:us-east-1:123456789012:function:api-dev:$LATEST",
        ] {
            assert_eq!(function_name(reference), Some("api-dev"), "{reference}");
        }
        for reference in [
            "api-dev:live",
            "arn:aws:lambda:eu-west-1:123456789012:function:api-dev",
            "arn:aws:lambda:us-east-1:999999999999:function:api-dev",
            "arn:aws:states:us-east-1:123456789012:stateMachine:api-dev",
        ] {
            assert_eq!(function_name(reference), None, "{reference}");
        }
    }
}
