//! The API function: takes requests in, hands them to the trigger function, and tells what became of them.

mod error;
mod trigger_workflow;
mod workflows;

use axum::{
    Router,
    body::to_bytes,
    extract::DefaultBodyLimit,
    http::Method,
    response::Response,
    routing::{get, post},
};
use error::ApiError;
use lambda_http::{Body, Request};
use shared::settings::Environment;
use std::convert::Infallible;
use tower::ServiceExt;

/// What the routes work with. Built once, during init.
#[derive(Clone, Debug)]
pub struct Api {
    lambda: aws_sdk_lambda::Client,
    step_functions: aws_sdk_sfn::Client,
    trigger_function: String,
    state_machine: String,
}

impl Api {
    /// An API in front of the trigger function and the state machine of `environment`.
    #[must_use]
    pub fn new(lambda: aws_sdk_lambda::Client, step_functions: aws_sdk_sfn::Client, environment: &Environment) -> Self {
        Self {
            lambda,
            step_functions,
            trigger_function: environment.trigger_function(),
            state_machine: environment.state_machine(),
        }
    }
}

/// The routes. `template.yaml` names each of them too, for API Gateway.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/trigger-workflow", post(trigger_workflow::post))
        .route("/workflows/{workflowId}", get(workflows::get))
        .route("/workflows/{workflowId}/steps", get(workflows::steps::get))
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async |method: Method| ApiError::MethodNotAllowed(method))
        // A payload has its own limit, and API Gateway and Lambda bound what comes this far.
        .layer(DefaultBodyLimit::disable())
        .with_state(api)
}

/// Answers one request by the `routes`, with the body whole: what `lambda_http` serves side by side must be `Sync`,
/// which a body that still streams is not.
///
/// # Errors
/// None: every failure is an answer.
pub async fn answer(routes: Router, request: Request) -> Result<Response<Body>, Infallible> {
    let (parts, body) = routes.oneshot(request).await?.into_parts();
    // Every body here is in memory already, so reading it to its end neither waits nor fails.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    Ok(Response::from_parts(parts, Body::from(String::from_utf8_lossy(&body).into_owned())))
}
