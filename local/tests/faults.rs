//! Nothing lost, nothing run twice: the real functions, with AWS's calls going wrong in between.
//!
//! `FAULT_SEED` chooses another course of events, `FAULT_REQUESTS` how many requests the long run posts.

mod support;

use local::{
    Suite, gateway,
    lambda::{self, Lambda},
    moto::{self, Moto},
    progress::Progress,
    redrive::{self, Redriven},
    template::{Asynchronous, Function, Queue, Template},
};
use reqwest::StatusCode;
use serde_json::Value;
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    env, fmt, fs,
    future::pending,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::{executions, faults::Faults, http, options, project, proxy::Proxy, start, within};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

/// How many callers post at the same time.
const CALLERS: usize = 16;

/// How often a caller with an idempotency key repeats a request until it is accepted.
const REPEATS: usize = 100;

fn seed() -> u64 {
    env::var("FAULT_SEED").map_or(1, |seed| seed.parse().expect("FAULT_SEED is a number"))
}

/// A design that runs, with faults between its functions and AWS.
struct Design {
    name: &'static str,
    url: String,
    lambda_url: String,
    lambda: Lambda,
    moto_url: String,
    step_functions: aws_sdk_sfn::Client,
    sqs: aws_sdk_sqs::Client,
    template: Template,
    faults: Arc<Faults>,
    proxies: [Proxy; 2],
    /// Whatever has to live as long.
    _running: Box<dyn Any + Send + Sync>,
}

/// Proxies for Lambda and for Step Functions.
async fn proxies(faults: &Arc<Faults>) -> [Proxy; 2] {
    [Proxy::with(faults).await, Proxy::with(faults).await]
}

/// This suite.
async fn ours(faults: Faults) -> Design {
    let faults = Arc::new(faults);
    let [to_lambda, to_step_functions] = proxies(&faults).await;
    let step_functions = ("AWS_ENDPOINT_URL_SFN".to_owned(), to_step_functions.url.clone());
    let lambda = ("AWS_ENDPOINT_URL_LAMBDA".to_owned(), to_lambda.url.clone());
    let mut options = options();
    options.variables.insert("ApiFunction".to_owned(), BTreeMap::from([lambda, step_functions.clone()]));
    options.variables.insert("TriggerFunction".to_owned(), BTreeMap::from([step_functions]));
    let suite = start(&options).await;
    to_lambda.forward_to(&suite.lambda_url);
    to_step_functions.forward_to(&suite.moto.url);
    let Suite { url, lambda_url, lambda, template, moto, .. } = &suite;
    // A redriven message that fails again is tried again at once, not after minutes.
    for Queue { name, .. } in &template.queues {
        let queue = moto.sqs().set_queue_attributes().queue_url(queue_url(name));
        let visibility = aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout;
        queue.attributes(visibility, "1").send().await.expect("set");
    }
    Design {
        name: "this suite",
        url: url.clone(),
        lambda_url: lambda_url.clone(),
        lambda: lambda.clone(),
        moto_url: moto.url.clone(),
        step_functions: moto.step_functions(),
        sqs: moto.sqs(),
        template: template.clone(),
        faults,
        proxies: [to_lambda, to_step_functions],
        _running: Box::new(suite),
    }
}

/// The design that the suite replaces: the two functions of `functions/design_before.py`, the same host around them.
async fn design_before(faults: Faults) -> Design {
    let faults = Arc::new(faults);
    let [to_lambda, to_step_functions] = proxies(&faults).await;
    let interpreter = moto::install(&project().join("target/local"), Progress::Silent).await.expect("moto");
    let invoke = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let front = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let moto = Moto::start(&interpreter, 0, invoke.local_addr().expect("an address").port()).await.expect("moto");
    let mut template = options().template().expect("the template");
    r#"{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}"#
        .clone_into(&mut template.state_machines[0].definition);
    moto.deploy(&template).await.expect("deployed");

    let folder = tempfile::tempdir().expect("a folder");
    let binary = folder.path().join("function.py");
    let program = format!("#!{}\n{}", interpreter.display(), include_str!("functions/design_before.py"));
    fs::write(&binary, program).expect("written");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("permitted");
    let function = |name: &str, handler: &str| {
        let variables = [
            ("ENVIRONMENT", "dev"),
            ("HANDLER", handler),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_ENDPOINT_URL_LAMBDA", &to_lambda.url),
            ("AWS_ENDPOINT_URL_SFN", &to_step_functions.url),
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ];
        let function = Function {
            logical_id: name.to_owned(),
            name: name.to_owned(),
            code: PathBuf::from(folder.path()),
            timeout: Duration::from_secs(30),
            memory: 128,
            variables: variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            json_log: false,
            asynchronous: Asynchronous { retries: 2, max_age: Duration::from_hours(6), on_failure: None },
        };
        (function, binary.clone())
    };
    let functions = vec![function("api-dev", "api"), function("trigger-lambda-dev", "trigger")];
    let delays = [Duration::from_millis(100); 2];
    let no_log: lambda::Log = Arc::new(|_: &str, _: &str| {});
    let lambda = Lambda::new(functions, &BTreeMap::new(), delays, moto.sqs(), &no_log);
    let (lambda_url, url) = [&invoke, &front].map(|l| format!("http://{}", l.local_addr().expect("an address"))).into();
    let routes = gateway::router(&template.routes, &lambda).into_make_service_with_connect_info::<SocketAddr>();
    let calls = lambda::routes(lambda.clone());
    tokio::spawn(async move { axum::serve(invoke, calls).await });
    tokio::spawn(async move { axum::serve(front, routes).await });
    to_lambda.forward_to(&lambda_url);
    to_step_functions.forward_to(&moto.url);
    Design {
        name: "the design before",
        url,
        lambda_url,
        lambda,
        moto_url: moto.url.clone(),
        step_functions: moto.step_functions(),
        sqs: moto.sqs(),
        template,
        faults,
        proxies: [to_lambda, to_step_functions],
        _running: Box::new((moto, folder)),
    }
}

fn queue_url(name: &str) -> String {
    format!("https://sqs.us-east-1.amazonaws.com/{}/{name}", local::ACCOUNT)
}

/// What is posted: odd in its spelling, and for one of the requests as large as may be, of characters that each grow
/// wherever JSON is put into JSON.
fn body(number: usize) -> String {
    let body = format!(r#"{{"number":{number}, "text": "\u00e9 é", "price": 1.10, "quotes": ""}}"#);
    let quotes = if number == 19 { (shared::payload::MAX_BYTES - body.len() - 4) / 2 } else { 1 };
    body.replace(r#""quotes": """#, &format!(r#""quotes": "{}""#, r#"\""#.repeat(quotes)))
}

/// Which requests have an idempotency key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    None,
    /// Those with an even number.
    OfHalf,
}

/// Where each request has ended.
#[derive(Default)]
struct Account {
    /// The workflow id that each accepted request was answered with, where the design gives one.
    accepted: BTreeMap<usize, Option<String>>,
    refused: BTreeSet<usize>,
    /// How often a request was posted again because it was not accepted.
    repeated: usize,
    /// The names and inputs of the executions of each request.
    executions: BTreeMap<usize, Vec<(String, String)>>,
    /// How many records came into the on-failure queue.
    on_failure: usize,
    took: Duration,
}

impl Account {
    fn lost(&self) -> Vec<usize> {
        self.accepted.keys().copied().filter(|number| !self.executions.contains_key(number)).collect()
    }

    fn twice(&self) -> Vec<usize> {
        self.executions.iter().filter(|(_, runs)| runs.len() > 1).map(|(number, _)| *number).collect()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ran_all_the_same = self.refused.iter().filter(|number| self.executions.contains_key(number)).count();
        write!(
            formatter,
            "accepted {} ({} posts were repeated), refused {}, of which {ran_all_the_same} ran; \
             executions of {} requests, by way of the on-failure queue {}; lost {}, run twice {}; {:.0} s",
            self.accepted.len(),
            self.repeated,
            self.refused.len(),
            self.executions.len(),
            self.on_failure,
            self.lost().len(),
            self.twice().len(),
            self.took.as_secs_f64()
        )
    }
}

impl Design {
    /// Posts requests, lets everything come to rest, starts what is in the on-failure queue, and looks where each
    /// request is.
    async fn account(&self, requests: usize) -> Account {
        let start = Instant::now();
        println!("\n{}: {requests} requests, seed {}", self.name, seed());
        let mut account = self.post(requests, Keys::OfHalf).await;
        self.settle().await;
        account.on_failure = self.redrive().await;
        self.settle().await;
        account.executions = self.executions().await;
        account.took = start.elapsed();
        println!("{}\n{account}", self.faults);
        account
    }

    /// Posts the requests. Those with an idempotency key are repeated until they are accepted, the others are not.
    async fn post(&self, requests: usize, keys: Keys) -> Account {
        let next = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (next, url) = (Arc::clone(&next), format!("{}/trigger-workflow", self.url));
            callers.spawn(async move {
                let (http, mut account) = (http(), Account::default());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return account;
                    }
                    if number % 500 == 499 {
                        println!("  {} posted", number + 1);
                    }
                    let mut request = http.post(&url).header("content-type", "application/json").body(body(number));
                    let mut repeats = 0;
                    if keys == Keys::OfHalf && number % 2 == 0 {
                        request = request.header("idempotency-key", format!("request-{number}"));
                        repeats = REPEATS;
                    }
                    loop {
                        let answer = request.try_clone().expect("bytes").send().await.expect("an answer");
                        if answer.status() == StatusCode::OK {
                            let answer: Value = answer.json().await.expect("JSON");
                            account.accepted.insert(number, answer["workflowId"].as_str().map(str::to_owned));
                            break;
                        }
                        if repeats == 0 {
                            account.refused.insert(number);
                            break;
                        }
                        repeats -= 1;
                        account.repeated += 1;
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            });
        }
        let mut account = Account::default();
        while let Some(caller) = callers.join_next().await {
            let caller = caller.expect("posted");
            account.accepted.extend(caller.accepted);
            account.refused.extend(caller.refused);
            account.repeated += caller.repeated;
        }
        account
    }

    /// Waits until no call and no event is under way.
    async fn settle(&self) {
        for _ in 0..3 {
            for proxy in &self.proxies {
                proxy.settled().await;
            }
            self.lambda.settled().await;
        }
    }

    /// Starts what is in the on-failure queue, and tells how much that was.
    async fn redrive(&self) -> usize {
        let mut started = 0;
        let end = Instant::now() + Duration::from_mins(2);
        loop {
            let outcomes = redrive::failed(&self.lambda_url, &self.moto_url, |_, _| {}, pending::<()>()).await;
            // The design before has no mapping, and its host no such call.
            let outcomes = outcomes.unwrap_or_default();
            started += outcomes.iter().map(|outcome| usize::try_from(outcome.started).expect("few")).sum::<usize>();
            if outcomes.iter().all(Redriven::is_done) {
                return started;
            }
            assert!(Instant::now() < end, "{outcomes:?}");
            // Until they can be seen again.
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The executions by the numbers of their requests, once all have ended.
    async fn executions(&self) -> BTreeMap<usize, Vec<(String, String)>> {
        let machine = self.template.state_machines[0].arn();
        let list = async || {
            let request = self.step_functions.list_executions().state_machine_arn(&machine);
            let mut pages = request.into_paginator().items().send();
            let mut executions = vec![];
            while let Some(execution) = pages.next().await {
                executions.push(execution.expect("an execution"));
            }
            executions
        };
        within(Duration::from_mins(10), "the executions end", async || {
            sleep(Duration::from_millis(500)).await;
            list().await.iter().all(|execution| execution.status.as_str() == "SUCCEEDED")
        })
        .await;
        let mut executions: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for execution in list().await {
            let described =
                self.step_functions.describe_execution().execution_arn(&execution.execution_arn).send().await;
            let input = described.expect("described").input.expect("an input");
            let number = serde_json::from_str::<Value>(&input).expect("JSON")["number"].as_u64().expect("a number");
            executions.entry(number.try_into().expect("few")).or_default().push((execution.name, input));
        }
        executions
    }

    /// How many messages are in the on-failure queue.
    async fn waiting(&self) -> usize {
        let count = aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages;
        let attributes = self.sqs.get_queue_attributes().queue_url(queue_url(&self.template.queues[0].name));
        let answer = attributes.attribute_names(count.clone()).send().await.expect("attributes");
        answer.attributes.expect("attributes")[&count].parse().expect("a number")
    }
}

/// What is promised of this suite.
fn assert_kept(account: &Account, requests: usize) {
    assert_eq!(account.accepted.len() + account.refused.len(), requests, "every request is accounted for");
    assert_eq!(account.lost(), [] as [usize; 0], "accepted and lost");
    assert_eq!(account.twice(), [] as [usize; 0], "run more than once");
    assert!(account.refused.iter().all(|number| number % 2 == 1), "what is repeated is accepted in the end");
    for (number, id) in &account.accepted {
        let expected = (id.clone().expect("an id"), body(*number));
        assert_eq!(account.executions[number], [expected], "under its id, with its bytes");
    }
}

#[tokio::test]
async fn under_faults_every_accepted_request_is_one_execution() {
    let design = ours(Faults::new(seed(), 25)).await;
    let account = design.account(200).await;
    assert_kept(&account, 200);
    assert!(design.faults.count() > 50, "{}", design.faults.count());
    assert!(account.on_failure >= 5, "{} came by way of the on-failure queue", account.on_failure);
    assert!(design.faults.kills_are_real());
}

#[tokio::test]
async fn under_the_same_faults_the_design_before_loses_or_repeats() {
    let account = design_before(Faults::new(seed(), 25)).await.account(100).await;
    assert!(account.lost().len() + account.twice().len() > 0, "the faults of this run would show nothing: {account}");
}

#[tokio::test]
#[ignore = "takes minutes: the fault run of the README, which .ci/run leaves to the two shorter tests above"]
async fn fault_run() {
    let requests = env::var("FAULT_REQUESTS").map_or(2_000, |n| n.parse().expect("FAULT_REQUESTS is a number"));
    let heading = "| calls that go wrong | | accepted | by way of the on-failure queue | lost | run more than once |";
    let mut rows = vec![heading.to_owned(), "|---|---|---|---|---|---|".to_owned()];
    for percent in [10, 25] {
        let before = design_before(Faults::new(seed(), percent)).await;
        let design = ours(Faults::new(seed(), percent)).await;
        for design in [&before, &design] {
            let account = design.account(requests).await;
            assert_eq!(design.faults.missing(), [] as [&str; 0], "no fault of this kind came up");
            rows.push(format!(
                "| {percent} % | {} | {} | {} | {} | {} |",
                design.name,
                account.accepted.len(),
                account.on_failure,
                account.lost().len(),
                account.twice().len()
            ));
            assert!(design.faults.kills_are_real());
            if design.name == "this suite" {
                assert_kept(&account, requests);
                assert!(account.on_failure > requests / 50, "{} by way of the queue", account.on_failure);
            }
        }
    }
    println!("\n{}", rows.join("\n"));
}

#[tokio::test]
async fn an_outage_of_step_functions_leaves_everything_in_the_queue() {
    let design = ours(Faults::new(seed(), 0)).await;
    design.faults.set_out(true);
    let mut account = design.post(20, Keys::None).await;
    assert_eq!(account.accepted.len(), 20);
    design.settle().await;
    assert_eq!(design.waiting().await, 20);
    assert_eq!(design.executions().await.len(), 0);

    // As long as the outage lasts, nothing leaves the queue.
    let outcomes =
        redrive::failed(&design.lambda_url, &design.moto_url, |_, _| {}, pending::<()>()).await.expect("a suite");
    let queue = "OnFailureQueue".to_owned();
    let none = Redriven { queue: queue.clone(), started: 0, failed: 0, hidden: 0, was_on: false };
    assert_eq!(outcomes, [Redriven { started: 0, failed: 20, ..none.clone() }]);

    design.faults.set_out(false);
    let stranger = design.sqs.send_message().queue_url(queue_url(&queue)).message_body("hello").send().await;
    stranger.expect("sent");
    sleep(Duration::from_secs(1)).await;
    let outcomes =
        redrive::failed(&design.lambda_url, &design.moto_url, |_, _| {}, pending::<()>()).await.expect("a suite");
    assert_eq!(outcomes, [Redriven { started: 20, failed: 1, ..none }], "the stranger's message stays");
    account.executions = design.executions().await;
    assert_kept(&account, 20);
}

#[tokio::test]
async fn with_the_mapping_switched_on_the_queue_empties_itself() {
    let mut options = options();
    options.parameters.insert("RedriveFailed".to_owned(), "true".to_owned());
    let suite = start(&options).await;
    let batch: Value =
        serde_json::from_str(include_str!("../../functions/trigger/events/on-failure.json")).expect("JSON");
    let record = batch["Records"][0]["body"].as_str().expect("a record");
    suite
        .moto
        .sqs()
        .send_message()
        .queue_url(queue_url("OnFailureQueue"))
        .message_body(record)
        .send()
        .await
        .expect("sent");
    within(Duration::from_secs(20), "the workflow starts", async || !executions(&suite).await.is_empty()).await;
    assert_eq!(executions(&suite).await[0].0, "019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d");
}
