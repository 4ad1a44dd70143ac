use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use problem_details::ProblemDetails;
use shared::payload::PayloadError;
use tracing::error;

/// Everything that a request can be answered with instead of what it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("there is no such route: GET /openapi.json describes those that there are")]
    NoSuchRoute,
    #[error("this route does not take {0}: the Allow header lists what it takes")]
    MethodNotAllowed(Method),
    #[error("send the payload as JSON, with the header Content-Type: application/json")]
    UnsupportedMediaType,
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error("Idempotency-Key takes one key of 1 to 255 visible ASCII characters, bare or between double quotes")]
    InvalidIdempotencyKey,
    #[error("the idempotency key was used with another body: send the body that it was first used with, or a new key")]
    IdempotencyKeyReused,
    #[error("the query takes {0}")]
    InvalidParameter(&'static str),
    #[error("the cursor leads to no page: it is the `next` of an answer to the same query, and is good for 24 hours")]
    UnknownCursor,
    #[error("no workflow has this id")]
    UnknownWorkflow,
    #[error("the workflow has not started yet: send the request again later")]
    WorkflowPending,
    #[error("the workflow has finished: it is {0}")]
    WorkflowFinished(String),
    #[error("the workflow cannot be redriven: {0}")]
    NotRedrivable(String),
    #[error("too many requests are under way: send the request again later")]
    Throttled,
    #[error("a service behind the API is out of reach: send the request again later")]
    Unavailable,
    #[error("the API cannot serve the request as it is deployed: its log says why")]
    Internal,
}

impl ApiError {
    /// Sorts the failure of `operation`. AWS's message goes nowhere: it quotes ARNs and account numbers.
    pub(crate) fn aws<E: ProvideErrorMetadata>(operation: &str, error: &SdkError<E>) -> Self {
        let code = error.code().unwrap_or("none");
        let status = error.raw_response().map(|response| response.status().as_u16());
        error!(operation, code, status, "an AWS call failed");
        match (code, status) {
            ("TooManyRequestsException" | "ThrottlingException", _) | (_, Some(429)) => Self::Throttled,
            (_, Some(400..=499)) => Self::Internal,
            _ => Self::Unavailable,
        }
    }

    /// For what the code itself got wrong.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        error!(%error, "internal error");
        Self::Internal
    }

    /// The status and the problem type. The types are part of the API's contract: clients match on them.
    fn kind(&self) -> (StatusCode, Uri) {
        let (status, kind) = match self {
            Self::NoSuchRoute => (StatusCode::NOT_FOUND, "/problems/no-such-route"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "/problems/method-not-allowed"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "/problems/unsupported-media-type"),
            Self::Payload(PayloadError::TooLarge(_) | PayloadError::TooWide(_)) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "/problems/payload-too-large")
            }
            Self::Payload(PayloadError::Empty | PayloadError::NotJson(_)) => {
                (StatusCode::BAD_REQUEST, "/problems/invalid-json")
            }
            Self::InvalidIdempotencyKey => (StatusCode::BAD_REQUEST, "/problems/invalid-idempotency-key"),
            Self::IdempotencyKeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "/problems/idempotency-key-reused"),
            Self::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "/problems/invalid-parameter"),
            Self::UnknownCursor => (StatusCode::NOT_FOUND, "/problems/unknown-cursor"),
            Self::WorkflowPending => (StatusCode::CONFLICT, "/problems/workflow-pending"),
            Self::WorkflowFinished(_) => (StatusCode::CONFLICT, "/problems/workflow-finished"),
            Self::NotRedrivable(_) => (StatusCode::CONFLICT, "/problems/not-redrivable"),
            Self::UnknownWorkflow => (StatusCode::NOT_FOUND, "/problems/unknown-workflow"),
            Self::Throttled => (StatusCode::TOO_MANY_REQUESTS, "/problems/throttled"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "/problems/unavailable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "/problems/internal"),
        };
        (status, Uri::from_static(kind))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind) = self.kind();
        let mut problem = ProblemDetails::from_status_code(status).with_type(kind).with_detail(self.to_string());
        if let Some(title) = status.canonical_reason() {
            problem = problem.with_title(title);
        }
        let mut response = problem.into_response();
        if matches!(self, Self::Throttled | Self::Unavailable | Self::WorkflowPending) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
