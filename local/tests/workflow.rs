//! One POST becomes a finished workflow: over real HTTP, with the real functions, on moto's Step Functions.

mod support;

use local::{Options, client::Client};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use support::{executions, http, json, logged, options, post, post_by, proxy::Proxy, start, within};

#[tokio::test]
async fn a_post_becomes_a_finished_workflow() {
    let (log, lines) = logged();
    let options = Options { log, ..options() };
    let suite = start(&options).await;
    let payload = r#"{"n": 123456789012345678901234567890.10, "a": 1, "a": 2, "secret": "hunter2 \u00e9é"}"#;
    let answer = post(&suite, payload).await;
    assert_eq!(answer.status(), 200);
    let location = answer.headers()["location"].to_str().expect("text").to_owned();
    let accepted = json(&answer.text().await.expect("a body"));
    assert_eq!(accepted["message"], "Workflow triggered!");
    let id = accepted["workflowId"].as_str().expect("an id").to_owned();
    assert_eq!(location, format!("/workflows/{id}"));

    let client = Client::new(&suite.url).expect("a client");
    let workflow = client.follow(&id, |_| {}).await.expect("an end");
    assert_eq!(workflow.status, "SUCCEEDED");
    let output = json(workflow.answer.get())["output"].clone();
    // Without a sink the event is the output.
    let event = &output;
    assert_eq!((&event["id"], &event["specversion"]), (&json!(id), &json!("1.0")));
    assert_eq!(event["data"]["secret"], "hunter2 éé");

    let steps = client.steps(&id).await.expect("steps");
    let steps: Vec<_> = steps.iter().map(|step| (step.name.as_str(), step.status.as_str(), step.attempts)).collect();
    assert_eq!(steps, [("Task1", "SUCCEEDED", 1), ("Task2", "SUCCEEDED", 1)]);

    // What Step Functions got is what was posted, byte for byte.
    let arn = suite.template.state_machines[0].arn().replace(":stateMachine:", ":execution:");
    let described = suite.moto.step_functions().describe_execution().execution_arn(format!("{arn}:{id}")).send().await;
    assert_eq!(described.expect("described").input(), Some(payload));

    let log = lines.lock().expect("not poisoned");
    assert!(log.iter().any(|line| line.contains(&id)), "no line names the workflow: {log:?}");
    for line in log.iter() {
        assert!(json(line).is_object(), "{line}");
        assert!(!line.contains("hunter2") && !line.contains("arn:") && !line.contains("123456789012"), "{line}");
    }
}

#[tokio::test]
async fn the_trace_of_a_post_goes_on_to_the_trigger_and_what_happens_is_counted() {
    let (log, lines) = logged();
    let suite = start(&Options { log, ..options() }).await;
    let trace = "Root=1-67891233-abcdef012345678912345678";
    let request = http().post(format!("{}/trigger-workflow", suite.url)).body("{}");
    let request = request.header("content-type", "application/json").header("idempotency-key", "one");
    let post = || async { request.try_clone().expect("a body").header("x-amzn-trace-id", trace).send().await };
    let accepted = json(&post().await.expect("an answer").text().await.expect("a body"));
    let id = accepted["workflowId"].as_str().expect("an id").to_owned();
    Client::new(&suite.url).expect("a client").follow(&id, |_| {}).await.expect("an end");
    assert_eq!(post().await.expect("an answer").headers()["idempotency-replayed"], "true");

    let log = lines.lock().expect("not poisoned");
    // What trigger gives to StartExecution; moto does not keep it (functions/trigger/tests/start.rs sees it arrive).
    let started = log.iter().find(|line| line.contains(r#""message":"started""#)).expect("a line");
    assert!(started.contains(trace) && started.contains(&id), "{started}");
    let counts = log.iter().map(|line| json(line)).filter(|line| line["_aws"].is_object());
    let counts: BTreeMap<_, _> = counts
        .map(|line| {
            let metric = &line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"];
            (metric.as_str().expect("a name").to_owned(), line["FunctionName"].clone())
        })
        .collect();
    let expected = [
        ("WorkflowsReplayed", "api-dev"),
        ("WorkflowsStarted", "trigger-lambda-dev"),
        ("WorkflowsTriggered", "api-dev"),
    ];
    assert_eq!(counts, expected.map(|(metric, function)| (metric.to_owned(), json!(function))).into());
}

#[tokio::test]
async fn a_failure_is_logged_under_its_workflow() {
    let (log, lines) = logged();
    let mut options = Options { log, ..options() };
    let nowhere = "arn:aws:states:us-east-1:123456789012:stateMachine:gone".to_owned();
    let nowhere = BTreeMap::from([("STATE_MACHINE_ARN".to_owned(), nowhere)]);
    options.variables.insert("TriggerFunction".to_owned(), nowhere);
    let suite = start(&options).await;
    let id = Client::new(&suite.url).expect("a client").trigger("{}".to_owned()).await.expect("accepted");
    suite.lambda.gave_up().await;
    let log = lines.lock().expect("not poisoned");
    let failures = log.iter().filter(|line| line.contains("Trigger.StateMachineGone") && line.contains(&id));
    assert_eq!(failures.count(), 3, "one for each try: {log:?}");
    assert!(!log.iter().any(|line| line.contains("arn:")), "{log:?}");
}

#[tokio::test]
async fn the_answer_does_not_wait_for_the_trigger() {
    let proxy = Proxy::start(Duration::from_secs(3)).await;
    let mut options = options();
    let slow = BTreeMap::from([
        ("AWS_ENDPOINT_URL_SFN".to_owned(), proxy.url.clone()),
        (
            "STATE_MACHINE_ARN".to_owned(),
            "arn:aws:states:us-east-1:123456789012:stateMachine:orchestration-dev".to_owned(),
        ),
    ]);
    options.variables.insert("TriggerFunction".to_owned(), slow);
    let suite = start(&options).await;
    proxy.forward_to(&suite.moto.url);
    let http = http();
    // Warm: the API function has opened its connection to Lambda.
    assert_eq!(post_by(&http, &suite, "0").await.status(), 200);
    let mut took = vec![];
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(post_by(&http, &suite, "1").await.status(), 200);
        took.push(start.elapsed());
    }
    took.sort();
    // The median, because a busy machine can hold up any single answer; waiting for the trigger would take 3 s each.
    assert!(took[2] < Duration::from_millis(50), "{took:?}");
}

#[tokio::test]
async fn the_second_event_of_a_trigger_costs_one_call() {
    let proxy = Proxy::start(Duration::ZERO).await;
    let mut options = options();
    let counted = BTreeMap::from([("AWS_ENDPOINT_URL_SFN".to_owned(), proxy.url.clone())]);
    options.variables.insert("TriggerFunction".to_owned(), counted);
    let suite = start(&options).await;
    proxy.forward_to(&suite.moto.url);
    let step_functions = suite.moto.step_functions();
    for number in 0..2_500 {
        let other = step_functions.create_state_machine().name(format!("other-{number}"));
        let definition = r#"{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}"#;
        other.role_arn("arn:aws:iam::123456789012:role/x").definition(definition).send().await.expect("made");
    }
    // Made anew, the suite's own is the last of the 2,501, and on the third page.
    let own = &suite.template.state_machines[0];
    step_functions.delete_state_machine().state_machine_arn(own.arn()).send().await.expect("deleted");
    suite.moto.deploy(&suite.template).await.expect("made");
    let invoke = async || {
        let event = local::lambda::Invocation::new(r#"{"a":1}"#.into());
        let outcome = suite.lambda.invoke("trigger-lambda-dev", &event).await.expect("the trigger");
        let answer = json!({ "statusCode": 200, "body": "\"Step Function Triggered!\"" });
        let local::lambda::Outcome::Answer(body) = outcome else { panic!("{outcome:?}") };
        assert_eq!(json(std::str::from_utf8(&body).expect("text")), answer);
    };
    // Of init, whose search led nowhere: the proxy knew no Step Functions then.
    let init = proxy.calls();
    assert!(!init.is_empty() && init.iter().all(|call| call == "ListStateMachines"), "{init:?}");
    invoke().await;
    let first = proxy.calls();
    assert_eq!(first.iter().filter(|call| *call == "ListStateMachines").count(), 3, "{first:?}");
    invoke().await;
    assert_eq!(proxy.calls(), ["StartExecution"]);
}

#[tokio::test]
async fn a_thousand_posts_are_a_thousand_executions() {
    let suite = Arc::new(start(&options()).await);
    let posts = (0..16).map(|worker| {
        let client = Client::new(&suite.url).expect("a client");
        tokio::spawn(async move {
            let mut ids = vec![];
            for number in (worker..1_000).step_by(16) {
                ids.push(client.trigger(json!({ "number": number }).to_string()).await.expect("accepted"));
            }
            ids
        })
    });
    let mut ids = HashSet::new();
    for post in posts.collect::<Vec<_>>() {
        ids.extend(post.await.expect("posted"));
    }
    assert_eq!(ids.len(), 1_000);
    within(Duration::from_mins(5), "1,000 executions end", async || {
        let executions = executions(&suite).await;
        executions.len() >= 1_000 && executions.iter().all(|(_, status)| status != "RUNNING")
    })
    .await;
    let executions = executions(&suite).await;
    assert!(executions.iter().all(|(_, status)| status == "SUCCEEDED"), "{executions:?}");
    let names: Vec<_> = executions.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 1_000);
    assert_eq!(names.into_iter().collect::<HashSet<_>>(), ids);
}
