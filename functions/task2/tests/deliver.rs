//! Deliveries to a receiver on this machine.

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json, value::RawValue};
use shared::{
    settings::{SINK_URL, SettingError, WEBHOOK_SECRET},
    step::StepEvent,
};
use standardwebhooks::Webhook;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use task2::{Delivery, DeliveryError};
use tokio::net::TcpListener;

const ID: &str = "019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const EVENT: &str =
    r#"{"specversion":"1.0", "id":"019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d","data":{"n": 1.10, "é": "\u00e9"}}"#;

fn event() -> StepEvent<Box<RawValue>> {
    let input = RawValue::from_string(EVENT.to_owned()).expect("JSON");
    StepEvent { workflow_id: ID.parse().expect("an id"), attempt: 3, input }
}

fn delivery(url: &str, secret: Option<&str>) -> Result<Delivery, SettingError> {
    Delivery::read(|name| match name {
        SINK_URL => Some(url.to_owned()),
        WEBHOOK_SECRET => secret.map(str::to_owned),
        _ => None,
    })
}

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver that answers as told: where it is, and what it received.
async fn receiver(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (String, Received) {
    let received = Received::default();
    let seen = Arc::clone(&received);
    let take = async move |headers: HeaderMap, body: Bytes| {
        seen.lock().expect("not poisoned").push((headers, body));
        answer()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/events?token=hunter2", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/events", post(take))).await });
    (url, received)
}

async fn outcome(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Result<Value, DeliveryError> {
    let (url, received) = receiver(answer).await;
    let output = delivery(&url, Some(SECRET)).expect("settings").deliver(event()).await;
    assert_eq!(received.lock().expect("not poisoned").len(), 1, "one request, and no other");
    output.map(|output| serde_json::to_value(output).expect("JSON"))
}

#[tokio::test]
async fn the_event_arrives_signed_and_unchanged() {
    let (url, received) = receiver(|| StatusCode::NO_CONTENT.into_response()).await;
    let output = delivery(&url, Some(SECRET)).expect("settings").deliver(event()).await.expect("delivered");
    let received = received.lock().expect("not poisoned");
    let [(headers, body)] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!(body, EVENT.as_bytes());
    assert_eq!(headers[header::CONTENT_TYPE], "application/cloudevents+json");
    assert_eq!(headers["webhook-id"], ID);
    Webhook::new(SECRET).expect("a secret").verify(body, headers).expect("a valid signature");
    let other = Webhook::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
    other.verify(body, headers).expect_err("another secret");

    let output = serde_json::to_value(&output).expect("JSON");
    let host = url.trim_start_matches("http://").split('/').next();
    assert_eq!(output["eventId"], ID);
    assert_eq!(output["sink"].as_str(), host);
    assert_eq!((&output["status"], &output["attempts"]), (&json!(204), &json!(4)));
    assert!(output["deliveredAt"].is_string());
}

#[tokio::test]
async fn without_a_sink_the_event_is_the_output() {
    for url in [None, Some(String::new())] {
        let delivery = Delivery::read(|name| url.clone().filter(|_| name == SINK_URL)).expect("settings");
        let output = delivery.deliver(event()).await.expect("an output");
        assert_eq!(serde_json::to_string(&output).expect("JSON"), EVENT);
    }
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_will_not() {
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        let error = outcome(move || StatusCode::from_u16(status).expect("a status").into_response()).await;
        let error = error.expect_err("unavailable");
        assert_eq!(error.name(), "Delivery.Unavailable", "{status}");
        assert!(error.to_string().ends_with(&format!("answered {status}")), "{error}");
    }
    for status in [301, 302, 307, 400, 401, 403, 404, 409, 410, 413, 422] {
        let answer = move || {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [(header::LOCATION, "/elsewhere")]).into_response()
        };
        let error = outcome(answer).await.expect_err("refused");
        assert_eq!(error.name(), "Delivery.Refused", "{status}");
        assert!(error.to_string().contains(&status.to_string()) && !error.to_string().contains("hunter2"), "{error}");
    }
    for status in [200, 201, 202, 204] {
        let output = outcome(move || StatusCode::from_u16(status).expect("a status").into_response()).await;
        assert_eq!(output.expect("delivered")["status"], status);
    }
}

#[tokio::test]
async fn who_is_not_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/?token=hunter2", listener.local_addr().expect("an address"));
    drop(listener);
    let error = delivery(&url, Some(SECRET)).expect("settings").deliver(event()).await.expect_err("nobody");
    assert_eq!(error.name(), "Delivery.Unavailable");
    assert!(error.to_string().contains("cannot be reached") && !error.to_string().contains("hunter2"), "{error}");

    let hanging = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/?token=hunter2", hanging.local_addr().expect("an address"));
    let start = Instant::now();
    let error = delivery(&url, Some(SECRET)).expect("settings").deliver(event()).await.expect_err("no answer");
    assert_eq!(error.name(), "Delivery.Unavailable");
    assert!(error.to_string().contains("did not answer in time") && !error.to_string().contains("hunter2"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(22), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_answer_without_an_end_is_read_up_to_a_bound() {
    let start = Instant::now();
    let output = outcome(|| {
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1_024])));
        Body::from_stream(endless).into_response()
    });
    assert_eq!(output.await.expect("delivered")["status"], 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_sink_is_https_or_on_this_machine_and_has_a_secret() {
    for url in [
        "https://example.com/",
        "https://example.com:8443/a?b=c",
        "http://localhost:1",
        "http://127.1.2.3/",
        "http://[::1]:80/",
    ] {
        delivery(url, Some(SECRET)).expect(url);
    }
    for url in [
        "http://example.com/",
        "http://127.0.0.1.example.com/",
        "ftp://localhost/",
        "example.com",
        "https://",
        "http://10.0.0.1/",
        "https://:443/",
        "https://example.com:99999/",
        "https://example.com:https/",
        "https://example.com:/",
        "https://user:hunter2@example.com/",
        "https://example.com/ü",
        " https://example.com/",
    ] {
        let error = delivery(url, Some(SECRET)).expect_err(url);
        assert!(error.to_string().contains("SINK_URL is malformed"), "{error}");
    }
    for secret in [None, Some("")] {
        let error = delivery("https://example.com/", secret).expect_err("no secret");
        assert!(error.to_string().contains("WEBHOOK_SECRET is not set"), "{error}");
    }
    for secret in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_c2hvcnQ=", "whsec_hunter2!"] {
        let error = delivery("https://example.com/", Some(secret)).expect_err(secret);
        assert!(
            error.to_string().contains("WEBHOOK_SECRET is malformed") && !error.to_string().contains(secret),
            "{error}"
        );
    }
    // As the template makes it.
    delivery("https://example.com/", Some(&format!("whsec_{}", "Az09".repeat(11)))).expect("33 bytes");
}
