//! The API as a contract: idempotency keys, the list, and what `cargo local` makes of its routes.

mod support;

use local::{Suite, client::Client};
use reqwest::Response;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    process::{Command, Output},
    sync::Arc,
};
use support::{executions, json, options, start};
use uuid::Uuid;

async fn keyed(suite: &Suite, key: &str, body: &str) -> Response {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = http.post(format!("{}/trigger-workflow", suite.url)).header("content-type", "application/json");
    request.header("idempotency-key", key).body(body.to_owned()).send().await.expect("an answer")
}

#[tokio::test]
async fn one_key_is_one_execution() {
    let suite = Arc::new(start(&options()).await);
    let client = Client::new(&suite.url).expect("a client");
    let posts = (0..16).map(|worker| {
        let suite = Arc::clone(&suite);
        tokio::spawn(async move {
            let mut ids = vec![];
            for _ in (worker..200).step_by(16) {
                let answer = keyed(&suite, "order-1", r#"{"n": 1.10}"#).await;
                assert_eq!(answer.status(), 200);
                ids.push(json(&answer.text().await.expect("a body"))["workflowId"].as_str().expect("an id").to_owned());
            }
            ids
        })
    });
    let mut ids = vec![];
    for post in posts.collect::<Vec<_>>() {
        ids.extend(post.await.expect("posted"));
    }
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (200, 1));

    let other = keyed(&suite, "order-1", r#"{"n": 1.1}"#).await;
    assert_eq!(
        (other.status().as_u16(), &other.headers()["content-type"]),
        (422, &"application/problem+json".parse().expect("a value"))
    );

    assert_eq!(client.follow(&ids[0], |_| {}).await.expect("an end").status, "SUCCEEDED");
    let again = keyed(&suite, "order-1", r#"{"n": 1.10}"#).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(json(&again.text().await.expect("a body"))["workflowId"], ids[0].as_str());
    assert_eq!(executions(&suite).await, [(ids[0].clone(), "SUCCEEDED".to_owned())]);
}

/// `cargo local` with these arguments, against the suite.
async fn local(suite: &Suite, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(arguments).args(["--url", &suite.url]);
    tokio::task::spawn_blocking(move || command.output().expect("runs")).await.expect("joined")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn workflows_are_listed_shown_and_stopped() {
    let mut options = options();
    // The API follows a state machine that takes its time.
    options.variables.insert("ApiFunction".to_owned(), BTreeMap::from([("ENVIRONMENT".to_owned(), "slow".to_owned())]));
    let suite = start(&options).await;
    let step_functions = suite.moto.step_functions();
    let definition = r#"{"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": true}}}"#;
    let machine = step_functions.create_state_machine().name("orchestration-slow").definition(definition);
    let machine = machine.role_arn("arn:aws:iam::123456789012:role/r").send().await.expect("a state machine");
    let ids: Vec<String> = (0..5).map(|_| Uuid::now_v7().to_string()).collect();
    for id in &ids {
        let start = step_functions.start_execution().state_machine_arn(machine.state_machine_arn()).name(id);
        start.send().await.expect("started");
    }

    let mut listed = vec![];
    let mut cursor = None;
    loop {
        let mut arguments = vec!["list", "--json", "--limit", "2", "--status", "RUNNING"];
        arguments.extend(cursor.iter().flat_map(|cursor: &String| ["--cursor", cursor]));
        let page: Value = json(&text(&local(&suite, &arguments).await.stdout));
        listed.extend(page["workflows"].as_array().expect("workflows").iter().map(|w| w["workflowId"].clone()));
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, ids.iter().rev().map(|id| Value::from(id.as_str())).collect::<Vec<_>>(), "the newest first");

    let stopped = local(&suite, &["stop", &ids[0]]).await;
    assert_eq!(text(&stopped.stdout), format!("workflow {} stopped\n", ids[0]));
    let shown = text(&local(&suite, &["show", &ids[0]]).await.stdout);
    assert!(shown.starts_with(&format!("workflow {} ABORTED\n", ids[0])), "{shown}");
    let shown = json(&text(&local(&suite, &["show", "--json", &ids[0]]).await.stdout));
    assert_eq!((&shown["status"], &shown["steps"][0]["name"]), (&"ABORTED".into(), &"Wait".into()), "{shown}");
    let lines = text(&local(&suite, &["list"]).await.stdout);
    assert_eq!((lines.lines().count(), lines.matches("RUNNING").count(), lines.matches("ABORTED").count()), (5, 4, 1));
    assert!(!lines.contains('\u{1b}'), "no colours where there is no terminal: {lines:?}");

    let unknown = Uuid::new_v4().to_string();
    for (arguments, reason) in [
        (vec!["stop", &ids[0]], "409 Conflict: the workflow has finished: it is ABORTED"),
        (vec!["redrive", &ids[0]], "409 Conflict: the workflow cannot be redriven: "),
        (vec!["redrive", &unknown], "404 Not Found: no workflow has this id"),
        (vec!["show", "x"], "404 Not Found: no workflow has this id"),
        (vec!["show", "../openapi.json"], "404 Not Found: there is no such route"),
        (vec!["list", "--status", "PENDING"], "400 Bad Request: the query takes status (RUNNING, "),
        (vec!["list", "--cursor", "x"], "404 Not Found: the cursor leads to no page"),
    ] {
        let refused = local(&suite, &arguments).await;
        let error = text(&refused.stderr);
        assert!(!refused.status.success() && error.contains(reason) && error.lines().count() == 1, "{error}");
    }
}
