//! The protocol from POST to execution as a model, every course of events of which is checked for small numbers.
//!
//! What it takes for granted of AWS: Lambda's queue and the on-failure queue deliver at least once, an invocation or
//! a call may end at any point with or without its effect, and Step Functions starts one execution a name: the same
//! input again is the same execution while it runs, and is refused once it has ended, as another input always is
//! (<https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>).

use stateright::{Checker, Model, Property};

/// How often an event is tried: one try less than on AWS, which adds no case of its own.
const TRIES: u8 = 2;

/// What keeps the promise. Without any one of them the model must find how it is broken.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a rule by itself
struct Design {
    /// The workflow id names the execution.
    names: bool,
    /// A name that is taken is success if the input is the same, and an error if it is not.
    compares: Compares,
    /// A failure ends the invocation as an error.
    reports_errors: bool,
    /// A redrive tells which messages have failed.
    reports_failed_messages: bool,
    /// What is tried no more goes to the on-failure queue.
    keeps_failures: bool,
    /// Each try of an event has the input that the first one had, byte for byte.
    keeps_bytes: bool,
    /// So has a redrive.
    keeps_redriven_bytes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compares {
    Inputs,
    /// Whatever has the name is taken for the same.
    NothingAndAccepts,
    /// A taken name is an error.
    NothingAndRefuses,
}

const OURS: Design = Design {
    names: true,
    compares: Compares::Inputs,
    reports_errors: true,
    reports_failed_messages: true,
    keeps_failures: true,
    keeps_bytes: true,
    keeps_redriven_bytes: true,
};

/// A request: the index of its workflow id, which two share where they have one idempotency key, and its payload.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    id: u8,
    payload: u8,
}

/// An input is a payload and in which writing: 0 has the bytes that were posted.
type Input = (u8, u8);

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Execution {
    /// `None` is a name that no other execution has.
    name: Option<u8>,
    input: Input,
    is_running: bool,
}

/// Where the work on an event is: an invocation of the trigger.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Start,
    /// The name is taken: by which input?
    Describe,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Invocation {
    request: Request,
    /// Of an asynchronous event, how often it failed before; of a redrive, none: its record waits in the queue.
    failures: Option<u8>,
    step: Step,
}

impl Invocation {
    fn input(self, design: Design) -> Input {
        let writing = match self.failures {
            Some(failures) if !design.keeps_bytes => failures,
            None if !design.keeps_redriven_bytes => TRIES,
            _ => 0,
        };
        (self.request.payload, writing)
    }
}

/// Each list is sorted: the order in which things lie there means nothing.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
struct State {
    accepted: Vec<Request>,
    /// Lambda's queue: events and how often each has failed.
    events: Vec<(Request, u8)>,
    invocations: Vec<Invocation>,
    executions: Vec<Execution>,
    /// The on-failure queue.
    records: Vec<Request>,
    /// Starts that nobody waits for any more, and that may still take effect.
    late: Vec<(Request, Input)>,
    faults_left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A POST is answered with 200.
    Accept(Request),
    /// The same after the answer to the first `Invoke` was lost: it was repeated.
    AcceptTwice(Request),
    /// The API function ends after `Invoke`: nobody is told, and the caller may post again.
    VanishAfterInvoke(Request),
    Deliver(Request, u8),
    DeliverTwice(Request, u8),
    Receive(Request),
    /// The invocation makes its next call.
    Call(Invocation),
    /// The same, its answer is lost and the call repeated.
    CallAndLoseTheAnswer(Invocation),
    /// The same, and the process ends.
    CallAndCrash(Invocation),
    /// The call is throttled until the invocation gives up.
    Fail(Invocation),
    /// The call takes so long that the invocation gives up.
    GiveUp(Invocation),
    /// What was given up takes effect.
    TakeEffect(Request, Input),
    End(usize),
}

struct Protocol {
    design: Design,
    requests: Vec<Request>,
    faults: u8,
}

fn insert<T: Ord>(list: &mut Vec<T>, item: T) {
    let at = list.binary_search(&item).unwrap_or_else(|at| at);
    list.insert(at, item);
}

fn remove<T: Ord>(list: &mut Vec<T>, item: &T) {
    let at = list.binary_search(item).expect("an action on what is there");
    list.remove(at);
}

/// What Step Functions answers to a start.
enum Started {
    Yes,
    AlreadyExists,
}

impl State {
    fn start(&mut self, design: Design, request: Request, input: Input) -> Started {
        let name = design.names.then_some(request.id);
        match self.executions.iter().find(|execution| name.is_some() && execution.name == name) {
            None => {
                insert(&mut self.executions, Execution { name, input, is_running: true });
                Started::Yes
            }
            Some(execution) if execution.is_running && execution.input == input => Started::Yes,
            Some(_) => Started::AlreadyExists,
        }
    }

    /// The invocation ends well.
    fn succeed(&mut self, invocation: Invocation) {
        remove(&mut self.invocations, &invocation);
        // A message that was received twice may be gone by now.
        if invocation.failures.is_none()
            && let Ok(at) = self.records.binary_search(&invocation.request)
        {
            self.records.remove(at);
        }
    }

    /// The invocation ends with an error.
    fn fail(&mut self, design: Design, invocation: Invocation) {
        let is_redrive = invocation.failures.is_none();
        if !design.reports_errors && !is_redrive || !design.reports_failed_messages && is_redrive {
            return self.succeed(invocation);
        }
        remove(&mut self.invocations, &invocation);
        match invocation.failures.map(|failures| failures + 1) {
            Some(failures) if failures < TRIES => insert(&mut self.events, (invocation.request, failures)),
            Some(_) if design.keeps_failures => insert(&mut self.records, invocation.request),
            // Of a redrive: the record is still there.
            _ => {}
        }
    }

    /// Makes the invocation's next call, which takes effect and is answered.
    fn call(&mut self, design: Design, invocation: Invocation) {
        let (request, input) = (invocation.request, invocation.input(design));
        match invocation.step {
            Step::Start => match self.start(design, request, input) {
                Started::Yes => self.succeed(invocation),
                Started::AlreadyExists => {
                    remove(&mut self.invocations, &invocation);
                    insert(&mut self.invocations, Invocation { step: Step::Describe, ..invocation });
                }
            },
            Step::Describe => {
                let same = |execution: &Execution| execution.name == Some(request.id) && execution.input == input;
                let is_done = match design.compares {
                    Compares::Inputs => self.executions.iter().any(same),
                    Compares::NothingAndAccepts => true,
                    Compares::NothingAndRefuses => false,
                };
                if is_done {
                    self.succeed(invocation);
                } else {
                    self.fail(design, invocation);
                }
            }
        }
    }

    fn runs(&self, request: Request) -> usize {
        self.executions.iter().filter(|execution| execution.input.0 == request.payload).count()
    }

    fn is_at_rest(&self) -> bool {
        self.events.is_empty() && self.invocations.is_empty()
    }

    /// Whether the request's id belongs to another payload.
    fn is_conflict(&self, request: Request) -> bool {
        let other = |execution: &Execution| execution.name == Some(request.id) && execution.input.0 != request.payload;
        self.executions.iter().any(other)
    }

    /// What one redrive makes of a state at rest, if nothing goes wrong.
    fn redriven(&self, design: Design) -> Self {
        let mut state = self.clone();
        for request in self.records.clone() {
            let invocation = Invocation { request, failures: None, step: Step::Start };
            insert(&mut state.invocations, invocation);
            while let Some(invocation) = state.invocations.first().copied() {
                state.call(design, invocation);
            }
        }
        state
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { faults_left: self.faults, ..State::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let may_fail = state.faults_left > 0;
        for request in self.requests.iter().filter(|request| !state.accepted.contains(request)) {
            actions.push(Action::Accept(*request));
            if may_fail {
                actions.extend([Action::AcceptTwice(*request), Action::VanishAfterInvoke(*request)]);
            }
        }
        for (request, failures) in &state.events {
            actions.push(Action::Deliver(*request, *failures));
            if may_fail {
                actions.push(Action::DeliverTwice(*request, *failures));
            }
        }
        for request in &state.records {
            let is_received = state.invocations.iter().any(|i| i.failures.is_none() && i.request == *request);
            // A message that is being worked on may be received a second time, but not without end.
            if !is_received || may_fail {
                actions.push(Action::Receive(*request));
            }
        }
        for invocation in &state.invocations {
            actions.push(Action::Call(*invocation));
            if may_fail {
                actions.extend([
                    Action::CallAndLoseTheAnswer(*invocation),
                    Action::CallAndCrash(*invocation),
                    Action::Fail(*invocation),
                ]);
                if invocation.step == Step::Start {
                    actions.push(Action::GiveUp(*invocation));
                }
            }
        }
        actions.extend(state.late.iter().map(|(request, input)| Action::TakeEffect(*request, *input)));
        for (index, execution) in state.executions.iter().enumerate() {
            if execution.is_running {
                actions.push(Action::End(index));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let fault = |state: &mut State| state.faults_left -= 1;
        match action {
            Action::Accept(request) => {
                insert(&mut state.events, (request, 0));
                insert(&mut state.accepted, request);
            }
            Action::AcceptTwice(request) => {
                fault(&mut state);
                insert(&mut state.events, (request, 0));
                insert(&mut state.events, (request, 0));
                insert(&mut state.accepted, request);
            }
            Action::VanishAfterInvoke(request) => {
                fault(&mut state);
                insert(&mut state.events, (request, 0));
            }
            Action::Deliver(request, failures) => {
                remove(&mut state.events, &(request, failures));
                let invocation = Invocation { request, failures: Some(failures), step: Step::Start };
                insert(&mut state.invocations, invocation);
            }
            Action::DeliverTwice(request, failures) => {
                fault(&mut state);
                let invocation = Invocation { request, failures: Some(failures), step: Step::Start };
                insert(&mut state.invocations, invocation);
            }
            Action::Receive(request) => {
                if state.invocations.iter().any(|i| i.failures.is_none() && i.request == request) {
                    fault(&mut state);
                }
                insert(&mut state.invocations, Invocation { request, failures: None, step: Step::Start });
            }
            Action::Call(invocation) => state.call(self.design, invocation),
            Action::CallAndLoseTheAnswer(invocation) => {
                fault(&mut state);
                // The effect alone: the invocation is where it was, and calls again.
                let mut effect = state.clone();
                effect.call(self.design, invocation);
                state.executions = effect.executions;
            }
            Action::CallAndCrash(invocation) => {
                fault(&mut state);
                let mut effect = state.clone();
                effect.call(self.design, invocation);
                state.executions = effect.executions;
                state.fail(Design { reports_errors: true, reports_failed_messages: true, ..self.design }, invocation);
            }
            Action::GiveUp(invocation) => {
                fault(&mut state);
                insert(&mut state.late, (invocation.request, invocation.input(self.design)));
                state.fail(self.design, invocation);
            }
            Action::TakeEffect(request, input) => {
                remove(&mut state.late, &(request, input));
                // Its answer goes nowhere.
                let _ = state.start(self.design, request, input);
            }
            Action::Fail(invocation) => {
                fault(&mut state);
                state.fail(self.design, invocation);
            }
            Action::End(index) => {
                let mut execution = state.executions.remove(index);
                execution.is_running = false;
                insert(&mut state.executions, execution);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing runs twice", |protocol: &Self, state: &State| {
                protocol.requests.iter().all(|request| state.runs(*request) <= 1)
            }),
            Property::always("nothing is lost", |_, state: &State| {
                state.accepted.iter().all(|request| {
                    state.runs(*request) == 1
                        || state.events.iter().any(|(event, _)| event == request)
                        || state.invocations.iter().any(|invocation| invocation.request == *request)
                        || state.records.contains(request)
                })
            }),
            Property::always("one redrive leaves one execution each", |protocol: &Self, state: &State| {
                let redriven = state.redriven(protocol.design);
                !state.is_at_rest()
                    || state.accepted.iter().all(|request| {
                        match (redriven.runs(*request), redriven.records.contains(request)) {
                            (1, false) => true,
                            // Another payload was first to use the key: this one is kept for a person to look at.
                            (0, true) => redriven.is_conflict(*request),
                            _ => false,
                        }
                    })
            }),
            Property::sometimes("a second delivery finds its execution ended", |_, state: &State| {
                let is_same = |invocation: &&Invocation| state.runs(invocation.request) == 1;
                state.invocations.iter().filter(is_same).any(|invocation| invocation.step == Step::Describe)
            }),
            Property::sometimes("what has started is in the on-failure queue all the same", |_, state: &State| {
                state.records.iter().any(|request| state.runs(*request) == 1)
            }),
            Property::sometimes("what was given up starts after its retry", |_, state: &State| {
                state.late.iter().any(|(request, _)| state.runs(*request) == 1)
            }),
            Property::sometimes("a redrive starts what was not started", |_, state: &State| {
                let is_new = |invocation: &Invocation| state.runs(invocation.request) == 0;
                state.invocations.iter().any(|invocation| invocation.failures.is_none() && is_new(invocation))
            }),
        ]
    }
}

/// Two requests with ids of their own; one request posted under its key, which a fault makes its caller repeat; and
/// two payloads under one key.
fn cases() -> [Vec<Request>; 3] {
    let request = |id, payload| Request { id, payload };
    [vec![request(0, 0), request(1, 1)], vec![request(0, 0)], vec![request(0, 0), request(0, 1)]]
}

/// The broken promises of a design, by the names of the properties.
fn flaws(design: Design, faults: u8) -> Vec<&'static str> {
    let mut flaws: Vec<_> = cases()
        .into_iter()
        .flat_map(|requests| {
            let checker = Protocol { design, requests, faults }.checker().threads(2).spawn_bfs().join();
            let properties = checker.model().properties();
            let always = properties.into_iter().filter(|p| p.expectation == stateright::Expectation::Always);
            always.map(|property| property.name).filter(|name| checker.discovery(name).is_some()).collect::<Vec<_>>()
        })
        .collect();
    flaws.sort_unstable();
    flaws.dedup();
    flaws
}

#[test]
fn every_accepted_request_ends_as_one_execution_or_as_one_record() {
    for requests in cases() {
        let checker = Protocol { design: OURS, requests: requests.clone(), faults: 4 }.checker();
        let checker = checker.threads(2).spawn_bfs().join();
        println!("{requests:?}: {} states, up to {} steps", checker.unique_state_count(), checker.max_depth());
        assert!(checker.is_done());
        checker.assert_properties();
    }
}

#[test]
fn without_the_name_requests_run_twice() {
    assert!(flaws(Design { names: false, ..OURS }, 1).contains(&"nothing runs twice"));
}

#[test]
fn without_the_comparison_requests_are_lost_or_never_leave_the_queue() {
    let accepts = Design { compares: Compares::NothingAndAccepts, ..OURS };
    assert!(flaws(accepts, 1).contains(&"nothing is lost"));
    let refuses = Design { compares: Compares::NothingAndRefuses, ..OURS };
    assert_eq!(flaws(refuses, 1), ["one redrive leaves one execution each"]);
}

#[test]
fn an_error_told_as_success_loses_requests() {
    assert!(flaws(Design { reports_errors: false, ..OURS }, 1).contains(&"nothing is lost"));
    // It takes two failures to get into the queue, and one more for a redrive that fails.
    let redrive = Design { reports_failed_messages: false, ..OURS };
    assert!(flaws(redrive, TRIES + 1).contains(&"nothing is lost"));
}

#[test]
fn without_the_on_failure_queue_requests_are_lost() {
    assert!(flaws(Design { keeps_failures: false, ..OURS }, TRIES).contains(&"nothing is lost"));
}

#[test]
fn an_input_written_anew_never_leaves_the_queue() {
    for design in [Design { keeps_bytes: false, ..OURS }, Design { keeps_redriven_bytes: false, ..OURS }] {
        assert_eq!(flaws(design, TRIES), ["one redrive leaves one execution each"], "{design:?}");
    }
}
