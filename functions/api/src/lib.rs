//! The API function: takes requests in, hands them to the trigger function, and tells what became of them.
//!
//! Its contract is `openapi.json`, which it serves itself.

mod arn;
mod error;
mod event;
mod idempotency_key;
mod trigger_workflow;
mod workflows;

pub use event::InvalidEvent;

use aws_sdk_lambda::types::InvocationType;
use axum::{
    Router,
    body::to_bytes,
    extract::DefaultBodyLimit,
    http::{Method, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use error::ApiError;
use lambda_http::{Adapter, Body, LambdaEvent, Request, RequestExt, Service, service_fn};
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use serde_json::value::RawValue;
use shared::{WorkflowId, deadline::before_deadline, https, settings::Environment, telemetry};
use std::{convert::Infallible, sync::Arc};
use tower::ServiceExt;
use tracing::{Instrument, Span, error};
use trigger_workflow::Keys;
use workflows::Succeeded;

/// The OpenAPI 3.1 document of the routes.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// What the routes work with. Built once, during init.
#[derive(Debug)]
pub struct Api {
    lambda: aws_sdk_lambda::Client,
    step_functions: aws_sdk_sfn::Client,
    trigger_function: String,
    state_machine: String,
    keys: Keys,
    succeeded: Succeeded,
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
            keys: Keys::default(),
            succeeded: Succeeded::default(),
        }
    }

    /// Opens the connection that a POST needs, by a dry run: Lambda only looks whether the trigger could be invoked
    /// (<https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>).
    pub async fn connect(&self) {
        let invoke = self.lambda.invoke().function_name(&self.trigger_function);
        https::during_init(invoke.invocation_type(InvocationType::DryRun).send()).await;
    }
}

/// A cache of what is known of workflows: in one part, because a function has one thread. By itself it would ask the
/// system how many cores there are, which is 2 % of a cold start.
fn cache<V: Clone, W: Weighter<WorkflowId, V> + Clone>(items: usize, weight: u64, of: W) -> Cache<WorkflowId, V, W> {
    let options = OptionsBuilder::new().shards(1).estimated_items_capacity(items).weight_capacity(weight).build();
    // It fails where one of the three is not set.
    let options = options.expect("the options of a cache");
    Cache::with_options(options, of, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// The routes. `template.yaml` names each of them too, for API Gateway.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/trigger-workflow", post(trigger_workflow::post))
        .route("/workflows", get(workflows::list::get))
        .route("/workflows/{workflowId}", get(workflows::get).delete(workflows::stop::delete))
        .route("/workflows/{workflowId}/steps", get(workflows::steps::get))
        .route("/workflows/{workflowId}/redrive", post(workflows::redrive::post))
        .route("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI)))
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async |method: Method| ApiError::MethodNotAllowed(method))
        // A payload has its own limit, and API Gateway and Lambda bound what comes this far.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(api))
}

/// Answers one event of the HTTP API by the `routes`: a response in payload format 2.0, as JSON.
///
/// # Errors
/// The event is none of an HTTP API. Whatever a client sends has an answer.
pub async fn handle(
    routes: Router,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<impl serde::Serialize + Send + Sync + 'static, InvalidEvent> {
    let request = event::read(&event.payload)?;
    let mut service = Adapter::from(service_fn(async |request| answer(routes.clone(), request).await));
    let Ok(response) = service.call(LambdaEvent::new(request, event.context)).await;
    Ok(response)
}

async fn answer(routes: Router, request: Request) -> Result<Response<Body>, Infallible> {
    let context = request.lambda_context();
    let id = request.uri().path().split('/').nth(2).and_then(|id| id.parse::<WorkflowId>().ok());
    let span = id.map_or_else(Span::none, |id| telemetry::workflow_span(&id.to_string()));
    let answer = async {
        before_deadline(&context, routes.oneshot(request)).await.unwrap_or_else(|| {
            error!("the request took longer than the function may");
            Ok(ApiError::Unavailable.into_response())
        })
    };
    let (parts, body) = answer.instrument(span).await?.into_parts();
    // Every body here is in memory already, so reading it to its end neither waits nor fails.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    Ok(Response::from_parts(parts, Body::from(String::from_utf8_lossy(&body).into_owned())))
}
