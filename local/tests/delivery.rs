//! From POST to the operator's endpoint.

mod support;

use local::{
    Options, Suite,
    client::{Client, Workflow},
    lambda::{Invocation, Outcome},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use support::{executions, json, logged, options, receiver::Receiver, start, within};
use tokio::{net::TcpListener, task::JoinSet};

/// A suite that delivers to `url`.
async fn delivering(url: &str) -> Suite {
    start(&delivering_to(url)).await
}

/// As `cargo local up --parameter SinkUrl=…` does it.
fn delivering_to(url: &str) -> Options {
    let parameters = BTreeMap::from([("SinkUrl".to_owned(), url.to_owned())]);
    Options { parameters, ..options() }
}

async fn finished(suite: &Suite, payload: &str) -> (String, Workflow, Value) {
    let client = Client::new(&suite.url).expect("a client");
    let id = client.trigger(payload.to_owned()).await.expect("accepted");
    let workflow = client.follow(&id, |_| {}).await.expect("an end");
    let answer = json(workflow.answer.get());
    (id, workflow, answer)
}

#[tokio::test]
async fn a_receiver_that_is_away_gets_the_event_once_it_is_back() {
    let receiver = Receiver::start(|_, before| if before < 3 { 503 } else { 204 }).await;
    let suite = delivering(&receiver.url).await;
    let (id, workflow, answer) = finished(&suite, r#"{"key":"value"}"#).await;
    assert_eq!(workflow.status, "SUCCEEDED");
    let output = &answer["output"];
    assert_eq!((&output["eventId"], &output["status"], &output["attempts"]), (&json!(id), &json!(204), &json!(4)));
    let deliveries = receiver.deliveries();
    let statuses: Vec<_> = deliveries[&id].iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses, [503, 503, 503, 204]);
    let bodies: BTreeSet<_> = deliveries[&id].iter().map(|(body, _)| body).collect();
    assert_eq!(bodies.len(), 1, "the same event each time");
    assert_eq!(executions(&suite).await.len(), 1);
    let steps = Client::new(&suite.url).expect("a client").steps(&id).await.expect("steps");
    assert_eq!(steps[1].attempts, 4);
}

#[tokio::test]
async fn a_receiver_that_refuses_fails_the_workflow_at_once() {
    let receiver = Receiver::start(|_, _| 400).await;
    let (log, lines) = logged();
    let suite = start(&Options { log, ..delivering_to(&receiver.url) }).await;
    let (id, workflow, answer) = finished(&suite, r#"{"secret":"hunter2"}"#).await;
    assert_eq!((workflow.status.as_str(), &answer["error"]), ("FAILED", &json!("Delivery.Refused")));
    let cause = answer["cause"].as_str().expect("a cause");
    assert!(cause.contains("400") && !cause.contains("hunter2") && !cause.contains("/events"), "{cause}");
    assert_eq!(receiver.deliveries()[&id].len(), 1);
    let lines = lines.lock().expect("not poisoned");
    assert!(lines.iter().any(|line| line.contains("Delivery.Refused") && line.contains(&id)), "{lines:?}");
    for told in ["hunter2", "LocalSecret", "/events", "arn:"] {
        assert!(!lines.iter().any(|line| line.contains(told)), "{told}: {lines:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_is_unavailable_within_the_functions_timeout() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let suite = delivering(&format!("http://{}", hanging.local_addr().expect("an address"))).await;
    let start = Instant::now();
    let event = Invocation::new(include_str!("../../functions/task2/events/step.json").into());
    let outcome = suite.lambda.invoke("Task2-dev", &event).await.expect("Task2");
    let Outcome::Failure(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(json(std::str::from_utf8(&error).expect("text"))["errorType"], "Delivery.Unavailable");
    let timeout = suite.template.function("Task2Function").expect("Task2").timeout;
    assert!(start.elapsed() < timeout, "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_largest_payload_arrives_unchanged() {
    let receiver = Receiver::start(|_, _| 200).await;
    let suite = delivering(&receiver.url).await;
    let around = r#"{"text":""}"#.len() + 1;
    let payload = json!({ "text": "x".repeat(shared::payload::MAX_BYTES - around) }).to_string();
    let larger = payload.replacen('x', "xx", 1);
    let refused = Client::new(&suite.url).expect("a client").trigger(larger).await.expect_err("one byte more");
    assert!(refused.to_string().contains("413"), "{refused}");
    let (id, workflow, _) = finished(&suite, &payload).await;
    assert_eq!(workflow.status, "SUCCEEDED");
    let deliveries = receiver.deliveries();
    let body = json(std::str::from_utf8(&deliveries[&id][0].0).expect("text"));
    assert!(body["data"] == json(&payload), "the data is another");
}

#[tokio::test]
async fn five_hundred_posts_reach_a_receiver_that_fails_a_third_of_the_time() {
    // By the id and the attempt, so that no order of events changes it.
    let fails = |id: &str, before: usize| Sha256::digest(format!("{id}/{before}"))[0].is_multiple_of(3);
    let receiver = Receiver::start(move |id, before| if fails(id, before) { 503 } else { 204 }).await;
    let suite = delivering(&receiver.url).await;
    let mut callers = JoinSet::new();
    for caller in 0..10 {
        let client = Client::new(&suite.url).expect("a client");
        callers.spawn(async move {
            let mut ids = vec![];
            for number in 0..50 {
                ids.push(client.trigger(json!([caller, number]).to_string()).await.expect("accepted"));
            }
            ids
        });
    }
    let posted: BTreeSet<_> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(posted.len(), 500);
    within(Duration::from_mins(5), "every workflow ends", async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let executions = executions(&suite).await;
        executions.len() == 500 && executions.iter().all(|(_, status)| status != "RUNNING")
    })
    .await;
    assert!(executions(&suite).await.iter().all(|(_, status)| status == "SUCCEEDED"));
    let deliveries = receiver.deliveries();
    assert_eq!(deliveries.keys().cloned().collect::<BTreeSet<_>>(), posted, "each id that was posted, and no other");
    let taken = |of_id: &Vec<(_, u16)>| of_id.iter().filter(|(_, status)| *status == 204).count();
    assert!(deliveries.values().all(|of_id| taken(of_id) == 1), "each is taken once");
    assert!(deliveries.values().any(|of_id| of_id.len() > 2), "no delivery failed twice");
}
