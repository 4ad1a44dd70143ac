//! `POST /trigger-workflow`

use crate::{Api, ApiError, arn::FunctionArn, cache, idempotency_key::KeyedId, workflows};
use aws_sdk_lambda::{primitives::Blob, types::InvocationType};
use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, State},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};
use lambda_http::RequestExt;
use mime::Mime;
use quick_cache::{UnitWeighter, sync::Cache};
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::{WorkflowId, event::TriggerEvent, metrics::Metric, payload, telemetry};
use std::{convert::Infallible, sync::Arc};
use tracing::{Instrument, info};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    message: &'static str,
    workflow_id: WorkflowId,
}

/// Accepts a payload: mints its workflow id, or derives it from the request's idempotency key, and leaves both with
/// Lambda's queue for the trigger function.
pub(crate) async fn post(
    State(api): State<Arc<Api>>,
    function: FunctionArn,
    Trace(trace): Trace,
    KeyedId(keyed): KeyedId,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    if !is_json(&headers) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let payload = payload::check(&body)?;
    let workflow_id = keyed.unwrap_or_else(WorkflowId::mint);
    async {
        if keyed.is_some() && is_replay(&api, &function, workflow_id, payload.get()).await? {
            info!("replayed");
            Metric::WorkflowsReplayed.count();
            return Ok(([("idempotency-replayed", "true")], accepted(workflow_id)).into_response());
        }
        let event = serde_json::to_vec(&TriggerEvent { workflow_id, payload: payload.get().into() })
            .map_err(ApiError::internal)?;
        let invoke = api.lambda.invoke().function_name(&api.trigger_function);
        let invoke = invoke.invocation_type(InvocationType::Event).payload(Blob::new(event));
        // The trigger's trace goes on from this one. The SDK sees to it only where a process has one event at a time.
        let invoke = invoke.customize().mutate_request(move |request| {
            if let Some(trace) = &trace {
                request.headers_mut().insert(TRACE_HEADER, trace.clone());
            }
        });
        invoke.send().await.map_err(|error| ApiError::aws("Invoke", &error))?;
        if keyed.is_some() {
            api.keys.0.insert(workflow_id, Key { payload: digest(payload.get()), has_started: false });
        }
        info!("accepted");
        Metric::WorkflowsTriggered.count();
        Ok(accepted(workflow_id).into_response())
    }
    .instrument(telemetry::workflow_span(&workflow_id.to_string()))
    .await
}

/// The header that carries an X-Ray trace from service to service.
const TRACE_HEADER: &str = "x-amzn-trace-id";

/// The invocation's X-Ray trace, as Lambda tells it and not as a client may write it.
pub(crate) struct Trace(Option<String>);

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.lambda_context_ref().and_then(|context| context.xray_trace_id.clone())))
    }
}

fn accepted(workflow_id: WorkflowId) -> impl IntoResponse {
    let location = [(header::LOCATION, format!("/workflows/{workflow_id}"))];
    (location, Json(Accepted { message: "Workflow triggered!", workflow_id }))
}

/// What this process knows of the payloads that came under idempotency keys, by their workflow ids. Step Functions
/// is what decides; this spares it calls, and tells a second payload from the first while that has not started yet.
#[derive(Debug)]
pub(crate) struct Keys(Cache<WorkflowId, Key>);

#[derive(Clone, Copy, Debug)]
struct Key {
    payload: [u8; 32],
    has_started: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self(cache(4_096, 4_096, UnitWeighter))
    }
}

/// Whether the workflow of a key has started already, with this very payload. Where it has not, another event for it
/// does no harm: the trigger starts an id once.
async fn is_replay(api: &Api, function: &FunctionArn, id: WorkflowId, payload: &str) -> Result<bool, ApiError> {
    let mut known = api.keys.0.get(&id);
    if !known.is_some_and(|key| key.has_started)
        && let Some(execution) = workflows::describe(api, function, &id).await?
    {
        // Step Functions leaves the input out only where it is encrypted with a key that the API may not use.
        let input = execution.input.ok_or_else(|| ApiError::internal("the execution's input cannot be read"))?;
        let key = Key { payload: digest(&input), has_started: true };
        api.keys.0.insert(id, key);
        known = Some(key);
    }
    match known {
        Some(key) if key.payload != digest(payload) => Err(ApiError::IdempotencyKeyReused),
        Some(key) => Ok(key.has_started),
        None => Ok(false),
    }
}

fn digest(payload: &str) -> [u8; 32] {
    Sha256::digest(payload).into()
}

/// `application/json` or any `+json`, in UTF-8 where a charset is named.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(|text| text.parse::<Mime>().ok()).is_some_and(|mime| {
        let json = mime.essence_str() == "application/json" || mime.suffix() == Some(mime::JSON);
        json && mime.get_param(mime::CHARSET).is_none_or(|charset| charset == mime::UTF_8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_many_names() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/cloudevents+json", true),
            ("application/json; charset=utf-16", false),
            ("application/jsonp", false),
            ("text/plain", false),
            ("json", false),
            ("", false),
            ("application/json, application/json", false),
        ] {
            let value = content_type.parse().expect("a header value");
            assert_eq!(is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)])), expected, "{content_type}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
