//! The trigger against a mocked Step Functions: what AWS would see, and what it may answer.

mod support;

use aws_sdk_sfn::{
    Client, Config,
    config::{Region, retry::RetryConfig},
    operation::{
        describe_execution::DescribeExecutionError,
        describe_state_machine::DescribeStateMachineError,
        start_execution::{StartExecutionError, StartExecutionOutput},
    },
    primitives::DateTime,
    types::{
        ExecutionStatus,
        error::{ExecutionDoesNotExist, StateMachineDoesNotExist},
    },
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use serde_json::json;
use shared::{aws, https::Connector};
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};
use support::{ACCEPTED, ID, PAYLOAD, REQUEST_ID, arn, described, event, page, refused, started, taken, trigger};
use trigger::{StateMachine, Trigger, TriggerError};

const DIRECT: &str = include_str!("../events/direct.json");

/// A client of a Step Functions at `url`, by the HTTP client that the function has.
fn client(url: String) -> Client {
    let connector = Connector::new(|_| None, Duration::from_secs(1)).expect("certificates");
    let config = Config::builder()
        .behavior_version_latest()
        .endpoint_url(url)
        .http_client(aws::http_client(&connector))
        .region(Region::from_static("us-east-1"))
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
        .with_test_defaults();
    Client::from_conf(config.build())
}

/// Where `listener` is.
fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().expect("an address"))
}

fn gone() -> StartExecutionError {
    StartExecutionError::StateMachineDoesNotExist(StateMachineDoesNotExist::builder().build())
}

#[tokio::test]
async fn the_payload_becomes_the_input_and_the_workflow_id_the_name() {
    let (list, start) = (page(None, &["a", "orchestration-dev"], None), started(ID, PAYLOAD));
    let answer = trigger(&[&list, &start]).handle(event(ACCEPTED)).await.expect("started");
    let expected = json!({ "statusCode": 200, "body": "\"Step Function Triggered!\"" });
    assert_eq!(serde_json::to_value(answer).expect("JSON"), expected);
    assert_eq!(start.num_calls(), 1);
}

#[tokio::test]
async fn what_init_finds_is_found_for_every_event() {
    let (list, start) = (page(None, &["orchestration-dev"], None), started(ID, PAYLOAD));
    let trigger = trigger(&[&list, &start]);
    trigger.connect().await;
    assert_eq!(list.num_calls(), 1);
    trigger.handle(event(ACCEPTED)).await.expect("started");
    assert_eq!((list.num_calls(), start.num_calls()), (1, 1));
}

#[tokio::test]
async fn what_init_does_not_find_is_looked_for_again() {
    let (nothing, list) = (page(None, &["another"], None), page(None, &["orchestration-dev"], None));
    let start = started(ID, PAYLOAD);
    let trigger = trigger(&[&nothing, &list, &start]);
    trigger.connect().await;
    trigger.handle(event(ACCEPTED)).await.expect("started");
    assert_eq!((nothing.num_calls(), list.num_calls(), start.num_calls()), (1, 1, 1));
}

#[tokio::test]
async fn init_looks_at_a_known_state_machine_and_lists_none() {
    let look = mock!(Client::describe_state_machine)
        .match_requests(|request| request.state_machine_arn() == Some(&arn("orchestration-dev")))
        .then_error(|| {
            let gone = StateMachineDoesNotExist::builder().build();
            DescribeStateMachineError::StateMachineDoesNotExist(gone)
        });
    let start = started(ID, PAYLOAD);
    let client = mock_client!(aws_sdk_sfn, RuleMode::Sequential, &[&look, &start]);
    let trigger = Trigger::new(client, StateMachine::Arn(arn("orchestration-dev")), None);
    trigger.connect().await;
    trigger.handle(event(ACCEPTED)).await.expect("started");
    assert_eq!((look.num_calls(), start.num_calls()), (1, 1));
}

#[tokio::test]
async fn init_waits_no_longer_than_a_second_for_an_aws_that_hangs() {
    // It takes connections, and nothing more.
    let hangs = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let machine = StateMachine::Named("orchestration-dev".to_owned());
    let begin = SystemTime::now();
    Trigger::new(client(url(&hangs)), machine, None).connect().await;
    let took = begin.elapsed().expect("a time");
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn the_execution_goes_on_with_the_trace_of_the_event() {
    let (longest, longer) = ("x".repeat(256), "x".repeat(257));
    for (trace, is_handed_on) in [
        (None, false),
        (Some("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"), true),
        (Some(longest.as_str()), true),
        (Some(longer.as_str()), false),
        (Some(""), false),
        (Some("é"), false),
    ] {
        let trace = trace.map(str::to_owned);
        let expected = trace.clone().filter(|_| is_handed_on);
        let list = page(None, &["orchestration-dev"], None);
        let start = mock!(Client::start_execution)
            .match_requests(move |request| request.trace_header().map(str::to_owned) == expected)
            .then_output(|| {
                let output = StartExecutionOutput::builder().execution_arn("arn").start_date(DateTime::from_secs(0));
                output.build().expect("all fields are set")
            });
        let mut event = event(ACCEPTED);
        event.context.xray_trace_id = trace;
        trigger(&[&list, &start]).handle(event).await.expect("started");
        assert_eq!(start.num_calls(), 1);
    }
}

#[tokio::test]
async fn any_other_event_is_the_input_under_its_request_id() {
    let input = DIRECT.trim_end();
    let (list, start) = (page(None, &["orchestration-dev"], None), started(REQUEST_ID, input));
    trigger(&[&list, &start]).handle(event(DIRECT)).await.expect("started");
    assert_eq!(start.num_calls(), 1);
}

#[tokio::test]
async fn the_search_reads_every_page_once() {
    let first = page(None, &["a", "orchestration-dev-2"], Some("2"));
    let second = page(Some("2"), &["orchestration", "orchestration-dev"], Some("3"));
    let (start, again) = (started(ID, PAYLOAD), started(ID, PAYLOAD));
    let trigger = trigger(&[&first, &second, &start, &again]);
    trigger.handle(event(ACCEPTED)).await.expect("started");
    trigger.handle(event(ACCEPTED)).await.expect("started");
    assert_eq!([&first, &second, &start, &again].map(Rule::num_calls), [1; 4]);
}

#[tokio::test]
async fn a_miss_is_not_kept() {
    let (miss, hit, start) = (page(None, &["a"], None), page(None, &["orchestration-dev"], None), started(ID, PAYLOAD));
    let trigger = trigger(&[&miss, &hit, &start]);
    let error = trigger.handle(event(ACCEPTED)).await.expect_err("no such state machine");
    assert_eq!(error, TriggerError::StateMachineNotFound("orchestration-dev".to_owned()));
    trigger.handle(event(ACCEPTED)).await.expect("started");
}

#[tokio::test]
async fn a_state_machine_that_has_gone_is_looked_up_afresh() {
    let (list, first) = (page(None, &["orchestration-dev"], None), started(ID, PAYLOAD));
    let (miss, again) = (refused(gone), page(None, &["orchestration-dev"], None));
    let second = started(ID, PAYLOAD);
    let trigger = trigger(&[&list, &first, &miss, &again, &second]);
    trigger.handle(event(ACCEPTED)).await.expect("started");
    trigger.handle(event(ACCEPTED)).await.expect("started on the new one");
    assert_eq!([&again, &second].map(Rule::num_calls), [1; 2]);
}

#[tokio::test]
async fn one_that_stays_gone_is_an_error() {
    let list = || page(None, &["orchestration-dev"], None);
    let (first, second, third) = (list(), list(), list());
    let (gone_once, gone_twice, start) = (refused(gone), refused(gone), started(ID, PAYLOAD));
    let trigger = trigger(&[&first, &gone_once, &second, &gone_twice, &third, &start]);
    let error = trigger.handle(event(ACCEPTED)).await.expect_err("gone both times");
    assert_eq!(error, TriggerError::StateMachineGone);
    // What led nowhere twice is not kept either.
    trigger.handle(event(ACCEPTED)).await.expect("started");
    assert_eq!(third.num_calls(), 1);
}

#[tokio::test]
async fn an_arn_that_is_set_needs_no_search() {
    let start = started(ID, PAYLOAD);
    let client = mock_client!(aws_sdk_sfn, RuleMode::Sequential, [&start]);
    let trigger = Trigger::new(client, StateMachine::Arn(arn("orchestration-dev")), None);
    trigger.handle(event(ACCEPTED)).await.expect("started");
}

#[tokio::test]
async fn a_second_delivery_of_one_event_is_a_success() {
    for status in [ExecutionStatus::Running, ExecutionStatus::Succeeded, ExecutionStatus::Failed] {
        let (list, twice) = (page(None, &["orchestration-dev"], None), refused(taken));
        let same = described(status, PAYLOAD);
        trigger(&[&list, &twice, &same]).handle(event(ACCEPTED)).await.expect("started before");
    }
}

#[tokio::test]
async fn a_name_taken_by_another_input_is_a_conflict() {
    let (list, twice) = (page(None, &["orchestration-dev"], None), refused(taken));
    let other = described(ExecutionStatus::Succeeded, r#"{"key":"value"}"#);
    let trigger = trigger(&[&list, &twice, &other]);
    let error = trigger.handle(event(ACCEPTED)).await.expect_err("another workflow");
    assert_eq!(error, TriggerError::WorkflowIdConflict);
}

#[tokio::test]
async fn an_execution_that_cannot_be_described_is_not_taken_for_started() {
    let (list, twice) = (page(None, &["orchestration-dev"], None), refused(taken));
    let unknown = mock!(Client::describe_execution)
        .then_error(|| DescribeExecutionError::ExecutionDoesNotExist(ExecutionDoesNotExist::builder().build()));
    let trigger = trigger(&[&list, &twice, &unknown]);
    let error = trigger.handle(event(ACCEPTED)).await.expect_err("not known to have started");
    assert!(matches!(error, TriggerError::StartFailed(_)), "{error}");
}

#[tokio::test]
async fn an_error_names_what_failed_and_quotes_nothing() {
    let list = page(None, &["orchestration-dev"], None);
    let denied = mock!(Client::start_execution).then_http_response(|| {
        let body = r#"{"__type":"AccessDeniedException","message":"User: arn:aws:sts::123456789012:x"}"#;
        let status = 400.try_into().expect("a status");
        aws_sdk_sfn::config::http::HttpResponse::new(status, body.into())
    });
    let error = trigger(&[&list, &denied]).handle(event(ACCEPTED)).await.expect_err("denied");
    assert_eq!(error.name(), "Trigger.StartFailed");
    assert_eq!(error.to_string(), "the execution was not started: AccessDeniedException");
}

#[tokio::test]
async fn what_takes_too_long_ends_before_the_deadline() {
    let takes_and_never_answers = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = client(url(&takes_and_never_answers));
    let trigger = Trigger::new(client, StateMachine::Arn(arn("orchestration-dev")), None);
    let mut event = event(ACCEPTED);
    let deadline = SystemTime::now() + Duration::from_secs(1);
    let millis = deadline.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    event.context.deadline = millis.try_into().expect("before the year 500 million");
    assert_eq!(trigger.handle(event).await, Err(TriggerError::TimedOut));
    assert!(SystemTime::now() < deadline);
}

/// Serves `answers`, one for each request, and tells over which connection each of them came.
fn answering(answers: &'static [&str]) -> (String, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = url(&listener);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut answers = answers.iter();
        for (number, connection) in listener.incoming().enumerate() {
            let mut connection = connection.expect("a connection");
            let mut request = [0; 8_192];
            while connection.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                let Some(answer) = answers.next() else { return };
                tell.send(number).expect("the test goes on");
                if answer.is_empty() {
                    break;
                }
                connection.write_all(answer.as_bytes()).expect("written");
            }
        }
    });
    (url, told)
}

#[tokio::test]
async fn what_a_sick_machine_of_awss_answers_is_asked_again_over_another_connection() {
    const STARTED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 34\r\n\r\n\
                           {\"executionArn\":\"a\",\"startDate\":1}";
    const SICK: &str = "HTTP/1.1 500 Sick\r\ncontent-length: 2\r\n\r\n{}";
    for (answers, connections) in [(&[SICK, STARTED], [0, 1]), (&["", STARTED], [0, 1]), (&[STARTED, STARTED], [0, 0])]
    {
        let (url, told) = answering(answers);
        let trigger = Trigger::new(client(url), StateMachine::Arn(arn("orchestration-dev")), None);
        trigger.handle(event(ACCEPTED)).await.expect("started");
        if connections == [0, 0] {
            trigger.handle(event(ACCEPTED)).await.expect("started");
        }
        assert_eq!([told.recv(), told.recv()], connections.map(Ok), "{answers:?}");
    }
}
