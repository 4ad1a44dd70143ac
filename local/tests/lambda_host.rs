//! The Lambda host against what AWS does, by a function that does what its event says.

mod support;

use base64::{Engine, prelude::BASE64_STANDARD};
use local::{
    ACCOUNT,
    lambda::{self, Invocation, Lambda, Log, Outcome},
    moto::{self, Moto},
    progress::Progress,
    template::{Asynchronous, Function, Queue, Template},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use support::{json, project, within};
use tokio::net::TcpListener;

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:any-dev";

struct Host {
    lambda: Lambda,
    url: String,
    moto: Moto,
    http: reqwest::Client,
    log: Arc<Mutex<Vec<String>>>,
}

async fn host(variables: &[(&str, &str)]) -> Host {
    host_of_events(variables, Duration::from_hours(6)).await
}

/// A host whose asynchronous events may get this old.
async fn host_of_events(variables: &[(&str, &str)], max_age: Duration) -> Host {
    let interpreter = moto::install(&project().join("target/local"), Progress::Silent).await.expect("moto");
    let moto = Moto::start(&interpreter, 0, 0).await.expect("moto runs");
    let queues = vec![Queue { name: "on-failure".to_owned(), visibility_timeout: 30 }];
    let template = Template { queues, ..Template::default() };
    moto.deploy(&template).await.expect("a queue");
    let function = Function {
        logical_id: "AnyFunction".to_owned(),
        name: "any-dev".to_owned(),
        code: project().join("local/tests/functions"),
        timeout: Duration::from_secs(1),
        memory: 256,
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        json_log: false,
        asynchronous: Asynchronous { retries: 2, max_age, on_failure: Some("on-failure".to_owned()) },
    };
    let lines = Arc::new(Mutex::new(vec![]));
    let log: Log = {
        let lines = Arc::clone(&lines);
        Arc::new(move |_: &str, line: &str| lines.lock().expect("not poisoned").push(line.to_owned()))
    };
    let binary = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/functions/any.py"));
    let python = BTreeMap::from([("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned())]);
    let delays = [Duration::from_millis(100), Duration::from_millis(300)];
    let lambda = Lambda::new(vec![(function, binary)], &python, delays, moto.sqs(), &log);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let routes = lambda::routes(lambda.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    local::client::Client::new(&url).expect("a client");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    Host { lambda, url, moto, http, log: lines }
}

impl Host {
    async fn invoke(&self, function: &str, kind: &str, event: impl Into<reqwest::Body>) -> reqwest::Response {
        self.invoke_with(r#"{"custom":1}"#, function, kind, event).await
    }

    async fn invoke_with(
        &self,
        context: &str,
        function: &str,
        kind: &str,
        event: impl Into<reqwest::Body>,
    ) -> reqwest::Response {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.url);
        let context = BASE64_STANDARD.encode(context);
        let request = self.http.post(url).header("x-amz-invocation-type", kind).header("x-amz-client-context", context);
        request.body(event).send().await.expect("an answer")
    }

    async fn body(&self, event: Value) -> Value {
        json(&self.invoke("any-dev", "RequestResponse", event.to_string()).await.text().await.expect("a body"))
    }

    async fn error_type(&self, event: Value) -> String {
        let answer = self.invoke("any-dev", "RequestResponse", event.to_string()).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-amz-function-error"], "Unhandled");
        let body = json(&answer.text().await.expect("a body"));
        assert!(body["errorMessage"].is_string(), "{body}");
        body["errorType"].as_str().expect("a type").to_owned()
    }

    /// The next record in the queue for events that were given up.
    async fn on_failure(&self) -> String {
        let url = format!("https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/on-failure");
        let received = Mutex::new(None);
        within(Duration::from_secs(10), "the record is in the queue", async || {
            let message = self.moto.sqs().receive_message().queue_url(&url).send().await.expect("an answer");
            *received.lock().expect("not poisoned") = message.messages.and_then(|mut messages| messages.pop());
            received.lock().expect("not poisoned").is_some()
        })
        .await;
        let message = received.into_inner().expect("not poisoned").expect("a message");
        message.body.expect("a body")
    }

    fn events_seen(&self) -> Vec<String> {
        let log = self.log.lock().expect("not poisoned");
        log.iter().filter_map(|line| line.strip_prefix("event ").map(str::to_owned)).collect()
    }
}

#[tokio::test]
async fn a_function_is_invoked_as_lambda_invokes_it() {
    let host = host(&[("MINE", "1")]).await;
    for reference in
        ["any-dev", "any-dev:$LATEST", ARN, &ARN.replace(':', "%3A"), &format!("{ACCOUNT}:function:any-dev")]
    {
        let answer = host.invoke(reference, "RequestResponse", r#"{"a":1}"#).await;
        assert_eq!(answer.status(), 200, "{reference}");
        assert!(!answer.headers().contains_key("x-amz-function-error"));
        assert_eq!(answer.headers()["x-amz-executed-version"], "$LATEST");
        let request_id = answer.headers()["x-amzn-requestid"].to_str().expect("text").to_owned();
        let body = json(&answer.text().await.expect("a body"));
        assert_eq!(body["event"], json!({ "a": 1 }));
        assert_eq!(body["requestId"], request_id);
        assert_eq!(body["arn"], ARN);
        assert_eq!(body["context"], r#"{"custom":1}"#);
        let deadline = body["deadlineIn"].as_f64().expect("seconds");
        assert!(0.5 < deadline && deadline <= 1.0, "{deadline}");
        let environment = &body["environment"];
        for (name, value) in [
            ("MINE", "1"),
            ("AWS_LAMBDA_FUNCTION_NAME", "any-dev"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_REGION", "us-east-1"),
            ("_HANDLER", "bootstrap"),
        ] {
            assert_eq!(environment[name], value, "{name}");
        }
        assert_eq!(environment["HOME"], Value::Null, "nothing of the person's own environment");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_at_the_last_moment_is_named() {
    let interpreter = moto::install(&project().join("target/local"), Progress::Silent).await.expect("moto");
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let error = Moto::start(&interpreter, port, 0).await.expect_err("in use").to_string();
    assert!(error.contains(&format!("port {port} is in use")), "{error}");
}

#[tokio::test]
async fn failures_are_told_as_lambda_tells_them() {
    let host = host(&[]).await;
    assert_eq!(host.error_type(json!({ "do": "fail" })).await, "My.Error");
    assert_eq!(host.error_type(json!({ "do": "large" })).await, "Function.ResponseSizeTooLarge");
    let first = host.body(json!({})).await["pid"].clone();
    assert_eq!(host.body(json!({})).await["pid"], first, "an idle environment is used again");
    assert_eq!(host.error_type(json!({ "do": "crash" })).await, "Runtime.ExitError");
    let second = host.body(json!({})).await["pid"].clone();
    assert_ne!(second, first, "after a crash there is a new one");
    let start = Instant::now();
    assert_eq!(host.error_type(json!({ "do": "hang" })).await, "Sandbox.Timedout");
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_ne!(host.body(json!({})).await["pid"], second, "after a timeout too");
    for _ in 0..5 {
        assert!(host.body(json!({ "do": "answer and exit" })).await["pid"].is_u64(), "what was answered counts");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_client_context_is_handed_on_in_one_line() {
    let host = host(&[]).await;
    let answer = host.invoke_with("{\n  \"custom\": 1\n}", "any-dev", "RequestResponse", "{}").await;
    assert_eq!(json(&answer.text().await.expect("a body"))["context"], r#"{"custom":1}"#);
    let answer = host.invoke_with("custom", "any-dev", "RequestResponse", "{}").await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["x-amzn-errortype"], "InvalidRequestContentException");
}

#[tokio::test]
async fn an_invocation_runs_to_its_end_without_its_caller() {
    let host = host(&[]).await;
    let pid = host.body(json!({})).await["pid"].clone();
    let url = format!("{}/2015-03-31/functions/any-dev/invocations", host.url);
    let call = host.http.post(url).body(r#"{"do":"sleep","seconds":0.5}"#);
    call.timeout(Duration::from_millis(200)).send().await.expect_err("gone");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(host.body(json!({})).await["pid"], pid, "the process was not killed");

    let function = host.lambda.clone();
    let event = Invocation::new(r#"{"do":"sleep","seconds":60}"#.into());
    let call = tokio::spawn(async move { function.invoke("any-dev", &event).await });
    within(Duration::from_secs(5), "the event arrives", async || host.events_seen().len() == 4).await;
    host.lambda.stop();
    let outcome = call.await.expect("not cancelled");
    assert!(matches!(&outcome, Some(Outcome::Failure(body)) if body.starts_with(b"{")), "{outcome:?}");
    let process = format!("/proc/{pid}");
    within(Duration::from_secs(1), "the process has ended", async || !std::fs::exists(&process).expect("Linux")).await;
}

#[tokio::test]
async fn refusals_carry_the_names_of_lambdas_exceptions() {
    let host = host(&[]).await;
    let (synchronous, asynchronous) = (lambda::MAX_SYNCHRONOUS_BYTES, lambda::MAX_ASYNCHRONOUS_BYTES);
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for (function, kind, event, status, error) in [
        ("none", "RequestResponse", "{}".to_owned(), 404, "ResourceNotFoundException"),
        ("none", "Event", "{}".to_owned(), 404, "ResourceNotFoundException"),
        ("any-dev:live", "Event", "{}".to_owned(), 404, "ResourceNotFoundException"),
        ("any-dev", "RequestResponse", "{".to_owned(), 400, "InvalidRequestContentException"),
        ("any-dev", "Event", "{".to_owned(), 400, "InvalidRequestContentException"),
        ("any-dev", "Later", "{}".to_owned(), 400, "InvalidParameterValueException"),
        ("any-dev", "RequestResponse", text(synchronous + 1), 413, "RequestTooLargeException"),
        ("any-dev", "Event", text(asynchronous + 1), 413, "RequestTooLargeException"),
    ] {
        let answer = host.invoke(function, kind, event).await;
        assert_eq!(answer.status(), status, "{function} {kind}");
        assert_eq!(answer.headers()["x-amzn-errortype"], error, "{function} {kind}");
        assert!(answer.headers().contains_key("x-amzn-requestid"));
        assert!(json(&answer.text().await.expect("a body"))["Message"].is_string());
    }
    assert_eq!(host.events_seen(), Vec::<String>::new(), "nothing was invoked");
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    let host = host(&[]).await;
    assert_eq!(host.invoke("any-dev", "DryRun", "{}").await.status(), 204);
    assert_eq!(host.events_seen(), Vec::<String>::new());
}

#[tokio::test]
async fn an_asynchronous_event_is_answered_at_once_and_tried_three_times() {
    let host = host(&[]).await;
    host.lambda.warm().await.expect("runs");
    let start = Instant::now();
    let answer = host.invoke("any-dev", "Event", json!({ "do": "sleep", "seconds": 0.5 }).to_string()).await;
    assert_eq!(answer.status(), 202);
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    within(Duration::from_secs(5), "the event arrives", async || host.events_seen().len() == 1).await;

    let event = r#"{"do":"fail", "n": 1.10}"#;
    assert_eq!(host.invoke("any-dev", "Event", event).await.status(), 202);
    let error = host.lambda.gave_up().await.to_string();
    assert!(error.contains("any-dev failed on its event 3 times"), "{error}");
    let body = host.on_failure().await;
    let seen = host.events_seen();
    assert_eq!(seen.len(), 4, "one that slept, three tries of one that failed");
    assert_eq!(seen[1..].iter().collect::<HashSet<_>>().len(), 1, "under one request id");
    assert!(body.contains(&format!(r#""requestPayload":{event}"#)), "{body}");
    let record = json(&body);
    let expected = json!({
        "requestId": seen[1],
        "functionArn": format!("{ARN}:$LATEST"),
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    });
    assert_eq!(record["requestContext"], expected);
    assert_eq!(record["responsePayload"], json!({ "errorType": "My.Error", "errorMessage": "as told" }));
    assert_eq!(record["responseContext"]["functionError"], "Unhandled");
}

#[tokio::test]
async fn an_event_that_is_too_old_is_not_tried_again() {
    let host = host_of_events(&[], Duration::ZERO).await;
    assert_eq!(host.invoke("any-dev", "Event", r#"{"do":"fail"}"#).await.status(), 202);
    let record = json(&host.on_failure().await);
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
}

#[tokio::test]
async fn events_side_by_side_get_environments_of_their_own_up_to_the_limit() {
    let host = Arc::new(host(&[]).await);
    let calls = (0..2 * lambda::MAX_ENVIRONMENTS).map(|_| {
        let host = Arc::clone(&host);
        tokio::spawn(async move { host.body(json!({ "do": "sleep", "seconds": 0.5 })).await["pid"].as_u64() })
    });
    let mut pids = HashSet::new();
    for call in calls.collect::<Vec<_>>() {
        pids.insert(call.await.expect("invoked").expect("a pid"));
    }
    assert_eq!(pids.len(), lambda::MAX_ENVIRONMENTS);
}

#[tokio::test]
async fn a_function_that_ends_during_init_is_named_with_its_last_words() {
    let host = host(&[("INIT", "exit")]).await;
    let error = host.lambda.warm().await.expect_err("ended").to_string();
    assert!(
        error.contains("any-dev") && error.contains("exit status: 3") && error.contains("the setting X is missing"),
        "{error}"
    );
    assert!(!error.contains('\n'));
    let outcome = host.lambda.invoke("any-dev", &Invocation::new("{}".into())).await;
    let Some(Outcome::Failure(body)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(json(std::str::from_utf8(&body).expect("text"))["errorType"], "Runtime.ExitError");
}
