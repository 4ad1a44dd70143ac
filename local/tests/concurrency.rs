//! Events side by side in one process, where Lambda offers it (`AWS_LAMBDA_MAX_CONCURRENCY`): a Runtime API that hands out
//! several events at once, and an AWS and a sink that answer once they have all of them before them. Task1 waits for nobody.

mod support;

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use local::{build, template::Template};
use serde_json::json;
use std::{
    collections::BTreeMap,
    future::pending,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use support::project;
use tokio::{
    net::TcpListener,
    process::Command,
    sync::{Barrier, mpsc},
    time::timeout,
};

const AT_ONCE: usize = 4;

/// What the function is led to.
#[derive(Clone)]
struct World {
    event: &'static str,
    handed_out: Arc<AtomicUsize>,
    together: Arc<Barrier>,
    answers: mpsc::UnboundedSender<(usize, String)>,
}

/// Hands out the event under another id to each who asks, and then nothing.
async fn next(State(world): State<World>) -> Response {
    let id = world.handed_out.fetch_add(1, Ordering::Relaxed);
    if id >= AT_ONCE {
        pending::<()>().await;
    }
    let deadline =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970") + Duration::from_secs(30);
    let headers = [
        ("lambda-runtime-aws-request-id", id.to_string()),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:f".to_owned()),
    ];
    (headers, world.event).into_response()
}

async fn answered(State(world): State<World>, Path(id): Path<usize>, body: String) -> StatusCode {
    world.answers.send((id, body)).expect("the test waits");
    StatusCode::ACCEPTED
}

/// AWS and the sink. What init asks for is answered at once.
async fn others(State(world): State<World>, headers: HeaderMap) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("x-amz-invocation-type") == "DryRun" || header("x-amz-target").ends_with(".DescribeStateMachine") {
        return StatusCode::NO_CONTENT.into_response();
    }
    world.together.wait().await;
    match (header("x-amz-invocation-type"), header("x-amz-target")) {
        ("Event", _) => StatusCode::ACCEPTED.into_response(),
        (_, "AWSStepFunctions.StartExecution") => {
            axum::Json(json!({ "executionArn": "a", "startDate": 1 })).into_response()
        }
        _ => StatusCode::OK.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_given_several_events_serves_them_side_by_side() {
    let template = Template::read(&project().join("template.yaml"), &BTreeMap::new()).expect("a template");
    for (function, event, answer) in [
        ("ApiFunction", include_str!("../../functions/api/events/post.json"), "Workflow triggered!"),
        ("TriggerFunction", include_str!("../../functions/trigger/events/accepted.json"), "Step Function Triggered!"),
        ("Task2Function", include_str!("../../functions/task2/events/step.json"), "deliveredAt"),
    ] {
        let function = template.function(function).expect("a function").clone();
        let binary = build::functions(&project(), &[function]).await.expect("built").remove(0);
        let (answers, mut answered_events) = mpsc::unbounded_channel();
        let (handed_out, together) = (Arc::default(), Arc::new(Barrier::new(AT_ONCE)));
        let world = World { event, handed_out, together, answers };
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .fallback(others)
            .with_state(world);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let _process = Command::new(binary)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", &host)
            .env("AWS_LAMBDA_MAX_CONCURRENCY", AT_ONCE.to_string())
            .env("AWS_ENDPOINT_URL", format!("http://{host}"))
            .envs([("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")])
            .envs([("AWS_LAMBDA_FUNCTION_NAME", "f"), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")])
            .envs([("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"), ("ENVIRONMENT", "dev")])
            .env("STATE_MACHINE_ARN", "arn:aws:states:us-east-1:123456789012:stateMachine:orchestration-dev")
            .env("SINK_URL", format!("http://{host}/"))
            .env("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let mut ids = vec![];
        for _ in 0..AT_ONCE {
            let (id, body) =
                timeout(Duration::from_secs(15), answered_events.recv()).await.expect("in time").expect("an answer");
            assert!(body.contains(answer), "{body}");
            ids.push(id);
        }
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2, 3]);
    }
}
