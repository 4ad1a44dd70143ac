//! `POST /trigger-workflow`

use crate::{Api, ApiError};
use aws_sdk_lambda::{primitives::Blob, types::InvocationType};
use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use mime::Mime;
use serde::Serialize;
use shared::{WorkflowId, event::TriggerEvent, payload, telemetry};
use tracing::{Instrument, info};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    message: &'static str,
    workflow_id: WorkflowId,
}

/// Accepts a payload: mints its workflow id and leaves both with Lambda's queue for the trigger function.
pub(crate) async fn post(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<impl IntoResponse, ApiError> {
    if !is_json(&headers) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let payload = payload::check(&body)?;
    let workflow_id = WorkflowId::mint();
    async {
        let event = serde_json::to_vec(&TriggerEvent { workflow_id, payload }).map_err(ApiError::internal)?;
        api.lambda
            .invoke()
            .function_name(&api.trigger_function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(event))
            .send()
            .await
            .map_err(|error| ApiError::aws("Invoke", &error))?;
        info!("accepted");
        let location = [(header::LOCATION, format!("/workflows/{workflow_id}"))];
        Ok((location, Json(Accepted { message: "Workflow triggered!", workflow_id })))
    }
    .instrument(telemetry::workflow_span(&workflow_id.to_string()))
    .await
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
