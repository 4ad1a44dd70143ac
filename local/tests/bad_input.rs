//! What a caller may get wrong: a 4xx with a reason, and nothing invoked.

mod support;

use local::client::Client;
use serde_json::Value;
use shared::payload::{MAX_BYTES, MAX_DEPTH, STATE_LIMIT_BYTES};
use support::{executions, json, options, post, start};

#[tokio::test]
async fn bad_input_is_refused_with_a_reason_and_starts_nothing() {
    let suite = start(&options()).await;
    let http = {
        Client::new(&suite.url).expect("a client");
        reqwest::Client::builder().no_proxy().build().expect("a client")
    };
    let url = format!("{}/trigger-workflow", suite.url);
    let json_type = Some("application/json");
    let large = format!("\"{}\"", "x".repeat(MAX_BYTES));
    let deep = "[".repeat(200_000);
    for (content_type, body, status) in [
        (json_type, b"".as_slice(), 400),
        (json_type, b"{", 400),
        (json_type, b"key=value", 400),
        (json_type, b"\xff\xfe{}", 400),
        (json_type, b"\"\\ud800\"", 400),
        (json_type, b"1e400", 400),
        (json_type, deep.as_bytes(), 400),
        (Some("application/json; charset=latin1"), b"{}", 415),
        (Some("text/plain"), b"{}", 415),
        (None, b"{}", 415),
        (json_type, large.as_bytes(), 413),
        (Some("application/octet-stream"), large.as_bytes(), 415),
    ] {
        let mut request = http.post(&url).body(body.to_vec());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = request.send().await.expect("an answer");
        let what = format!("{content_type:?} {}", String::from_utf8_lossy(&body[..body.len().min(20)]));
        assert_eq!(answer.status(), status, "{what}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
        let problem = json(&answer.text().await.expect("a body"));
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{what}: {problem}");
    }
    assert_eq!(executions(&suite).await, []);
}

#[tokio::test]
async fn what_is_no_route_is_refused_by_the_api_itself() {
    let suite = start(&options()).await;
    Client::new(&suite.url).expect("a client");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    for (method, path, status, allow) in [
        ("GET", "/", 404, None),
        ("GET", "/trigger-workflow", 405, Some("POST")),
        ("POST", "/workflows/x", 405, Some("GET,HEAD,DELETE")),
        ("PATCH", "/workflows", 405, Some("GET,HEAD")),
        ("HEAD", "/workflows/x", 404, None),
    ] {
        let request = method.parse().expect("a method");
        let answer = http.request(request, format!("{}{path}", suite.url)).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{method} {path}");
        let allowed = answer.headers().get("allow").map(|allow| allow.to_str().expect("text").to_owned());
        assert_eq!(allowed.as_deref(), allow, "{method} {path}");
    }
    for id in ["x", "%ff", "a%20b", "%00", "..%2f", "%3f", "%23", "é"] {
        let answer = http.get(format!("{}/workflows/{id}?{id}", suite.url)).send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "{id}");
    }
}

#[tokio::test]
async fn the_largest_payloads_fit_every_state() {
    let suite = start(&options()).await;
    let client = Client::new(&suite.url).expect("a client");
    let list = |item: &str, width: usize| format!("[{}]", vec![item; MAX_BYTES / width - 1].join(","));
    let payloads = [
        format!("\"{}\"", "x".repeat(MAX_BYTES - 2)),
        format!("\"{}\"", "é".repeat((MAX_BYTES - 2) / 6)),
        format!("\"{}\"", "😀".repeat((MAX_BYTES - 2) / 12)),
        list("1", 3),
        list("1e15", 20),
        list("{\"\":[]}", 10),
    ];
    for payload in payloads {
        let what = payload.chars().take(20).collect::<String>();
        let answer = post(&suite, payload.clone()).await;
        assert_eq!(answer.status(), 200, "{what}");
        let accepted = json(&answer.text().await.expect("a body"));
        let id = accepted["workflowId"].as_str().expect("an id");
        let workflow = client.follow(id, |_| {}).await.expect("an end");
        assert_eq!(workflow.status, "SUCCEEDED", "{what}: {:.300}", workflow.answer.get());
        // No assert_eq: its message would be both of them.
        assert!(json(workflow.answer.get())["output"]["data"] == json(&payload), "{what}");

        let arn = suite.template.state_machines[0].arn().replace(":stateMachine:", ":execution:");
        let history = suite.moto.step_functions().get_execution_history();
        let history = history.execution_arn(format!("{arn}:{id}")).send().await;
        let mut sizes = vec![];
        for event in history.expect("a history").events {
            let entered = event.state_entered_event_details.and_then(|details| details.input);
            let scheduled = event.task_scheduled_event_details.map(|details| details.parameters);
            let succeeded = event.task_succeeded_event_details.and_then(|details| details.output);
            let exited = event.state_exited_event_details.and_then(|details| details.output);
            sizes.extend([entered, scheduled, succeeded, exited].into_iter().flatten().map(|text| text.len()));
        }
        // Four for each of the two states.
        assert_eq!(sizes.len(), 8, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size < STATE_LIMIT_BYTES), "{what}: {sizes:?}");
        // And no more is refused than has to be.
        assert!(*sizes.iter().max().expect("eight") > STATE_LIMIT_BYTES - 2 * 4_096, "{what}: {sizes:?}");
    }
}

#[tokio::test]
async fn payloads_of_every_kind_run_to_the_end() {
    let suite = start(&options()).await;
    let client = Client::new(&suite.url).expect("a client");
    let nested = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    for payload in ["null", "true", "0", "-1.5e-300", "\"\"", "[]", "{}", "\"\\u0000😀\\ud83d\\ude00\"", &nested] {
        let id = client.trigger(payload.to_owned()).await.expect("accepted");
        let workflow = client.follow(&id, |_| {}).await.expect("an end");
        assert_eq!(workflow.status, "SUCCEEDED", "{payload}: {}", workflow.answer.get());
        let data: Value = json(workflow.answer.get())["output"]["data"].clone();
        assert_eq!(data, json(payload), "{payload}");
    }
}
