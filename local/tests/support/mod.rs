//! What the end-to-end tests share.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub(crate) mod faults;
pub(crate) mod proxy;
pub(crate) mod receiver;

use local::{Options, Suite, client::Client, lambda::Log};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The folder of `template.yaml`.
pub(crate) fn project() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A suite with retries after a tenth of a second, on free ports.
pub(crate) fn options() -> Options {
    let mut options = Options::new(project());
    options.retry_delays = [Duration::from_millis(100); 2];
    options
}

/// A log, and the lines that the functions write to it.
pub(crate) fn logged() -> (Log, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&lines);
    (Arc::new(move |_: &str, line: &str| seen.lock().expect("not poisoned").push(line.to_owned())), lines)
}

pub(crate) async fn start(options: &Options) -> Suite {
    Suite::start(options).await.expect("the suite starts")
}

/// An HTTP client, without ours in between.
pub(crate) fn http() -> reqwest::Client {
    // Installs the TLS provider that reqwest asks for.
    Client::new("http://127.0.0.1").expect("a client");
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Posts `body` as JSON.
pub(crate) async fn post(suite: &Suite, body: impl Into<reqwest::Body>) -> reqwest::Response {
    post_by(&http(), suite, body).await
}

/// Posts `body` as JSON by a client that is there already: to make one takes longer than an answer.
pub(crate) async fn post_by(
    http: &reqwest::Client,
    suite: &Suite,
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    let request = http.post(format!("{}/trigger-workflow", suite.url)).header("content-type", "application/json");
    request.body(body).send().await.expect("an answer")
}

/// The status of each execution of the suite's state machine, by its name.
pub(crate) async fn executions(suite: &Suite) -> Vec<(String, String)> {
    let arn = suite.template.state_machines[0].arn();
    let mut pages =
        suite.moto.step_functions().list_executions().state_machine_arn(arn).into_paginator().items().send();
    let mut executions = vec![];
    while let Some(execution) = pages.next().await {
        let execution = execution.expect("an execution");
        executions.push((execution.name, execution.status.to_string()));
    }
    executions
}

/// Waits until `done`, at most for `limit`.
pub(crate) async fn within<F: Future<Output = bool>>(limit: Duration, what: &str, mut done: impl FnMut() -> F) {
    let end = std::time::Instant::now() + limit;
    while !done().await {
        assert!(std::time::Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}
