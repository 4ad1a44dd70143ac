//! The routes below `/workflows` against a mocked Step Functions.

mod support;

use aws_sdk_sfn::{
    operation::{
        describe_execution::{
            DescribeExecutionError, DescribeExecutionOutput, builders::DescribeExecutionOutputBuilder,
        },
        get_execution_history::GetExecutionHistoryOutput,
        list_executions::{ListExecutionsError, ListExecutionsOutput},
        redrive_execution::{RedriveExecutionError, RedriveExecutionOutput},
        stop_execution::StopExecutionOutput,
    },
    primitives::DateTime,
    types::{
        ExecutionListItem, ExecutionStatus, HistoryEvent, HistoryEventType, StateEnteredEventDetails,
        StateExitedEventDetails, TaskFailedEventDetails,
        error::{ExecutionDoesNotExist, ExecutionLimitExceeded, ExecutionNotRedrivable, InvalidToken},
    },
};
use aws_smithy_mocks::{Rule, mock};
use serde_json::json;
use shared::WorkflowId;
use support::{ID, call, get, mocked, request, send};

fn execution(status: ExecutionStatus) -> DescribeExecutionOutputBuilder {
    DescribeExecutionOutput::builder()
        .execution_arn("arn")
        .state_machine_arn("arn")
        .status(status)
        .start_date(DateTime::from_secs(1_773_342_238))
}

#[tokio::test]
async fn a_workflow_is_told_with_its_output() {
    let describe = mock!(aws_sdk_sfn::Client::describe_execution)
        .match_requests(|request| {
            let arn = format!("arn:aws:states:us-east-1:123456789012:execution:orchestration-dev:{ID}");
            request.execution_arn() == Some(&arn)
        })
        .then_output(|| {
            let execution = execution(ExecutionStatus::Succeeded).stop_date(DateTime::from_millis(1_773_342_238_500));
            execution.output(r#"{"n": 1.10}"#).build().expect("all fields are set")
        });
    let response = call(&[], &[&describe], &get(&format!("/workflows/{ID}"))).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("retry-after"), None);
    let expected = format!(
        r#"{{"workflowId":"{ID}","status":"SUCCEEDED","startedAt":"2026-03-12T19:03:58Z","stoppedAt":"2026-03-12T19:03:58.5Z","output":{{"n": 1.10}}}}"#
    );
    assert_eq!(response.text, expected);
}

#[tokio::test]
async fn a_running_and_a_failed_workflow_are_told_apart() {
    let running = mock!(aws_sdk_sfn::Client::describe_execution)
        .then_output(|| execution(ExecutionStatus::Running).build().expect("all fields are set"));
    let response = call(&[], &[&running], &get(&format!("/workflows/{ID}"))).await;
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(response.body()["status"], "RUNNING");

    let failed = mock!(aws_sdk_sfn::Client::describe_execution).then_output(|| {
        let cause = "no access to arn:aws:lambda:us-east-1:123456789012:function:Task1-dev";
        execution(ExecutionStatus::Failed).error("Lambda.X").cause(cause).build().expect("all fields are set")
    });
    let answer = call(&[], &[&failed], &get(&format!("/workflows/{ID}"))).await.body();
    assert_eq!((&answer["error"], &answer["cause"]), (&json!("Lambda.X"), &json!("no access to arn:…")));
}

fn unknown() -> Rule {
    mock!(aws_sdk_sfn::Client::describe_execution)
        .then_error(|| DescribeExecutionError::ExecutionDoesNotExist(ExecutionDoesNotExist::builder().build()))
}

#[tokio::test]
async fn a_workflow_that_has_not_started_is_pending_while_it_can_be() {
    let fresh = WorkflowId::mint();
    let response = call(&[], &[&unknown()], &get(&format!("/workflows/{fresh}"))).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.body(), json!({ "workflowId": fresh, "status": "PENDING" }));
    assert_eq!(response.header("retry-after"), Some("1"));
    // Minted long ago, in the far future, and not by the API.
    for id in [ID, "ffffffff-ffff-7fff-bfff-ffffffffffff", "5c3b1c2e-8f0a-4b7e-9d6a-1f2e3d4c5b6a"] {
        call(&[], &[&unknown()], &get(&format!("/workflows/{id}"))).await.assert_problem(404, "unknown-workflow");
    }
}

#[tokio::test]
async fn what_is_no_id_is_asked_of_nobody() {
    for id in ["x", "019AB0C1-5A70-7C3E-9A51-6D1C0B3F2E4D", "a b", "%ff", "%00", "é"] {
        for path in [format!("/workflows/{id}"), format!("/workflows/{id}/steps")] {
            call(&[], &[], &get(&path)).await.assert_problem(404, "unknown-workflow");
        }
    }
}

#[tokio::test]
async fn other_routes_and_methods_are_problems_too() {
    call(&[], &[], &get("/")).await.assert_problem(404, "no-such-route");
    let response = call(&[], &[], &get("/trigger-workflow")).await;
    response.assert_problem(405, "method-not-allowed");
    assert_eq!(response.header("allow"), Some("POST"));
}

fn throttled() -> Rule {
    mock!(aws_sdk_sfn::Client::describe_execution)
        .sequence()
        .http_response(|| {
            let body = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
            aws_sdk_sfn::config::http::HttpResponse::new(400.try_into().expect("a status"), body.into())
        })
        // As often as the client tries.
        .times(3)
        .build()
}

#[tokio::test]
async fn a_throttled_read_may_be_tried_again() {
    let response = call(&[], &[&throttled()], &get(&format!("/workflows/{ID}"))).await;
    response.assert_problem(429, "throttled");
    assert_eq!(response.header("retry-after"), Some("1"));
}

fn event(id: i64, kind: HistoryEventType) -> aws_sdk_sfn::types::builders::HistoryEventBuilder {
    HistoryEvent::builder().id(id).previous_event_id(id - 1).r#type(kind).timestamp(DateTime::from_secs(id))
}

#[tokio::test]
async fn steps_are_told_from_the_whole_history() {
    let entered = |name: &str| StateEnteredEventDetails::builder().name(name).build().expect("a name");
    let exited = |name: &str| StateExitedEventDetails::builder().name(name).build().expect("a name");
    let failure = || {
        let cause = "at arn:aws:lambda:us-east-1:123456789012:function:x";
        TaskFailedEventDetails::builder().resource_type("lambda").resource("invoke").error("Lambda.X").cause(cause)
    };
    let pages = [
        vec![
            event(1, HistoryEventType::ExecutionStarted),
            event(2, HistoryEventType::TaskStateEntered).state_entered_event_details(entered("Task1")),
            event(3, HistoryEventType::TaskScheduled),
            event(4, HistoryEventType::TaskFailed).task_failed_event_details(failure().build().expect("built")),
        ],
        vec![
            event(5, HistoryEventType::TaskScheduled),
            event(6, HistoryEventType::TaskSucceeded),
            event(7, HistoryEventType::TaskStateExited).state_exited_event_details(exited("Task1")),
            event(8, HistoryEventType::TaskStateEntered).state_entered_event_details(entered("Task2")),
            event(9, HistoryEventType::TaskScheduled),
            event(10, HistoryEventType::ExecutionTimedOut),
        ],
    ];
    let [first, second] =
        pages.map(|page| page.into_iter().map(|event| event.build().expect("built")).collect::<Vec<_>>());
    let page = |token: Option<&'static str>, events: Vec<HistoryEvent>, next: Option<&'static str>| {
        mock!(aws_sdk_sfn::Client::get_execution_history)
            .match_requests(move |request| request.next_token() == token)
            .then_output(move || {
                let page = GetExecutionHistoryOutput::builder().set_events(Some(events.clone()));
                page.set_next_token(next.map(str::to_owned)).build().expect("all fields are set")
            })
    };
    let (first, second) = (page(None, first, Some("2")), page(Some("2"), second, None));
    let response = call(&[], &[&first, &second], &get(&format!("/workflows/{ID}/steps"))).await;
    let expected = json!({
        "workflowId": ID,
        "steps": [
            {
                "name": "Task1", "status": "SUCCEEDED", "attempts": 2, "error": "Lambda.X", "cause": "at arn:…",
                "startedAt": "1970-01-01T00:00:02Z", "stoppedAt": "1970-01-01T00:00:07Z",
            },
            {
                "name": "Task2", "status": "TIMED_OUT", "attempts": 1,
                "startedAt": "1970-01-01T00:00:08Z", "stoppedAt": "1970-01-01T00:00:10Z",
            },
        ],
    });
    assert_eq!(response.body(), expected);
}

#[tokio::test]
async fn a_workflow_that_succeeded_is_read_once() {
    let succeeded = mock!(aws_sdk_sfn::Client::describe_execution)
        .then_output(|| execution(ExecutionStatus::Succeeded).output("1").build().expect("all fields are set"));
    let failed = mock!(aws_sdk_sfn::Client::describe_execution)
        .then_output(|| execution(ExecutionStatus::Failed).build().expect("all fields are set"));
    let running = mock!(aws_sdk_sfn::Client::describe_execution)
        .then_output(|| execution(ExecutionStatus::Running).build().expect("all fields are set"));
    // A redrive makes a failed one run again, so that it must be read afresh.
    let routes = mocked(&[], &[&failed, &running, &succeeded]);
    for expected in ["FAILED", "RUNNING", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"] {
        assert_eq!(send(&routes, &get(&format!("/workflows/{ID}"))).await.body()["status"], expected);
    }
}

#[tokio::test]
async fn an_answer_waits_for_the_end() {
    let running = mock!(aws_sdk_sfn::Client::describe_execution)
        .then_output(|| execution(ExecutionStatus::Running).build().expect("all fields are set"));
    let succeeded = mock!(aws_sdk_sfn::Client::describe_execution)
        .then_output(|| execution(ExecutionStatus::Succeeded).output("1").build().expect("all fields are set"));
    let routes = mocked(&[], &[&running, &unknown(), &throttled(), &succeeded]);
    let fresh = WorkflowId::mint();
    assert_eq!(send(&routes, &get(&format!("/workflows/{fresh}?wait=20"))).await.body()["status"], "SUCCEEDED");

    let still = mock!(aws_sdk_sfn::Client::describe_execution)
        .sequence()
        .output(|| execution(ExecutionStatus::Running).build().expect("all fields are set"))
        .repeatedly()
        .build();
    let start = std::time::Instant::now();
    let response = call(&[], &[&still], &get(&format!("/workflows/{ID}?wait=1"))).await;
    assert_eq!((&response.body()["status"], response.header("retry-after")), (&json!("RUNNING"), Some("1")));
    assert!((1..3).contains(&start.elapsed().as_secs()));
}

#[tokio::test]
async fn a_malformed_query_is_refused() {
    let one = format!("/workflows/{ID}");
    for query in ["wait=", "wait=21", "wait=-1", "wait=1.5", "wait=x", "wait=1&wait=2", "wait=256", "wait=%ff"] {
        call(&[], &[], &get(&format!("{one}?{query}"))).await.assert_problem(400, "invalid-parameter");
    }
    for query in [
        "status=PENDING_REDRIVE",
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "status=PENDING",
        "status=running",
        "status=",
        "limit=1&limit=2",
    ] {
        call(&[], &[], &get(&format!("/workflows?{query}"))).await.assert_problem(400, "invalid-parameter");
    }
    for cursor in ["", "a+b", "%00", "x", "_w"] {
        call(&[], &[], &get(&format!("/workflows?cursor={cursor}"))).await.assert_problem(404, "unknown-cursor");
    }
}

#[tokio::test]
async fn workflows_are_listed_page_by_page() {
    let item = |name: &str, status: ExecutionStatus| {
        let item = ExecutionListItem::builder().execution_arn("arn").state_machine_arn("arn").name(name);
        item.status(status).start_date(DateTime::from_secs(1_773_342_238)).build().expect("all fields are set")
    };
    let first = mock!(aws_sdk_sfn::Client::list_executions)
        .match_requests(|request| {
            request.state_machine_arn() == Some("arn:aws:states:us-east-1:123456789012:stateMachine:orchestration-dev")
                && request.max_results() == Some(2)
                && request.status_filter() == Some(&ExecutionStatus::Failed)
                && request.next_token().is_none()
        })
        .then_output(move || {
            let page = ListExecutionsOutput::builder().executions(item(ID, ExecutionStatus::Failed));
            let by_hand = item("started-by-hand", ExecutionStatus::Failed);
            page.executions(by_hand).next_token("a+/=").build().expect("all fields are set")
        });
    let last = mock!(aws_sdk_sfn::Client::list_executions)
        .match_requests(|request| request.next_token() == Some("a+/=") && request.max_results() == Some(20))
        .then_output(|| {
            ListExecutionsOutput::builder().set_executions(Some(vec![])).build().expect("all fields are set")
        });
    let routes = mocked(&[], &[&first, &last]);
    let page = send(&routes, &get("/workflows?status=FAILED&limit=2")).await.body();
    let workflow = json!({ "workflowId": ID, "status": "FAILED", "startedAt": "2026-03-12T19:03:58Z" });
    assert_eq!(page, json!({ "workflows": [workflow], "next": "YSsvPQ" }));
    let page = send(&routes, &get("/workflows?cursor=YSsvPQ")).await.body();
    assert_eq!(page, json!({ "workflows": [] }));
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere_is_unknown() {
    let refused = mock!(aws_sdk_sfn::Client::list_executions)
        .then_error(|| ListExecutionsError::InvalidToken(InvalidToken::builder().build()));
    call(&[], &[&refused], &get("/workflows?cursor=YSsvPQ")).await.assert_problem(404, "unknown-cursor");
}

#[tokio::test]
async fn a_workflow_is_stopped_while_it_runs() {
    let running = mock!(aws_sdk_sfn::Client::describe_execution).then_output(|| {
        execution(ExecutionStatus::Running).execution_arn("arn:the-execution").build().expect("all fields are set")
    });
    let stop = mock!(aws_sdk_sfn::Client::stop_execution)
        .match_requests(|request| request.execution_arn() == Some("arn:the-execution"))
        .then_output(|| StopExecutionOutput::builder().stop_date(DateTime::from_secs(0)).build().expect("a date"));
    let response = call(&[], &[&running, &stop], &request("DELETE", &format!("/workflows/{ID}"))).await;
    assert_eq!((response.status, response.body()), (202, json!({ "workflowId": ID })));
    assert_eq!(response.header("location"), Some(format!("/workflows/{ID}").as_str()));

    let finished = mock!(aws_sdk_sfn::Client::describe_execution)
        .then_output(|| execution(ExecutionStatus::TimedOut).build().expect("all fields are set"));
    let delete = |id: &str| request("DELETE", &format!("/workflows/{id}"));
    call(&[], &[&finished], &delete(ID)).await.assert_problem(409, "workflow-finished");
    call(&[], &[&unknown()], &delete(ID)).await.assert_problem(404, "unknown-workflow");
    let pending = call(&[], &[&unknown()], &delete(&WorkflowId::mint().to_string())).await;
    pending.assert_problem(409, "workflow-pending");
    assert_eq!(pending.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_failed_workflow_is_redriven() {
    let redrive = |id: &str| request("POST", &format!("/workflows/{id}/redrive"));
    let redriven = mock!(aws_sdk_sfn::Client::redrive_execution)
        .match_requests(|request| {
            let arn = format!("arn:aws:states:us-east-1:123456789012:execution:orchestration-dev:{ID}");
            request.execution_arn() == Some(&arn)
        })
        .then_output(|| {
            RedriveExecutionOutput::builder().redrive_date(DateTime::from_secs(0)).build().expect("a date")
        });
    let response = call(&[], &[&redriven], &redrive(ID)).await;
    assert_eq!((response.status, response.body()), (202, json!({ "workflowId": ID })));

    let refused =
        |error: fn() -> RedriveExecutionError| mock!(aws_sdk_sfn::Client::redrive_execution).then_error(error);
    let running = refused(|| {
        let message = "arn:aws:states:us-east-1:123456789012:execution:o:x is RUNNING";
        let refusal = ExecutionNotRedrivable::builder().message(message);
        RedriveExecutionError::ExecutionNotRedrivable(refusal.build())
    });
    let response = call(&[], &[&running], &redrive(ID)).await;
    response.assert_problem(409, "not-redrivable");
    assert_eq!(response.body()["detail"], "the workflow cannot be redriven: arn:… is RUNNING");
    let limit = || RedriveExecutionError::ExecutionLimitExceeded(ExecutionLimitExceeded::builder().build());
    call(&[], &[&refused(limit)], &redrive(ID)).await.assert_problem(429, "throttled");
    let unknown = || RedriveExecutionError::ExecutionDoesNotExist(ExecutionDoesNotExist::builder().build());
    call(&[], &[&refused(unknown)], &redrive(ID)).await.assert_problem(404, "unknown-workflow");
    let keyed = "ac8c7f48-b155-8650-8c3b-c1ce9f1969f2";
    call(&[], &[&refused(unknown)], &redrive(keyed)).await.assert_problem(409, "workflow-pending");
}

#[tokio::test]
async fn a_redriven_step_runs_again() {
    let entered = StateEnteredEventDetails::builder().name("Task1").build().expect("a name");
    let failed = |id| {
        let failure = TaskFailedEventDetails::builder().resource_type("lambda").resource("invoke").error("Lambda.X");
        event(id, HistoryEventType::TaskFailed).task_failed_event_details(failure.build().expect("built"))
    };
    let events = [
        event(1, HistoryEventType::ExecutionStarted),
        event(2, HistoryEventType::TaskStateEntered).state_entered_event_details(entered),
        event(3, HistoryEventType::TaskScheduled),
        failed(4),
        event(5, HistoryEventType::ExecutionFailed),
        event(6, HistoryEventType::ExecutionRedriven),
        event(7, HistoryEventType::TaskScheduled),
    ];
    let events: Vec<_> = events.into_iter().map(|event| event.build().expect("built")).collect();
    let history = mock!(aws_sdk_sfn::Client::get_execution_history).then_output(move || {
        let page = GetExecutionHistoryOutput::builder().set_events(Some(events.clone()));
        page.build().expect("all fields are set")
    });
    let answer = call(&[], &[&history], &get(&format!("/workflows/{ID}/steps"))).await.body();
    let step = json!({
        "name": "Task1", "status": "RUNNING", "attempts": 2, "error": "Lambda.X", "startedAt": "1970-01-01T00:00:02Z",
    });
    assert_eq!(answer["steps"], json!([step]));
}
