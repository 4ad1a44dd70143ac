//! The state machine's definition against the errors that the steps can end with.

mod support;

use serde_json::Value;
use shared::step::StepError;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use support::{json, options};
use task1::PrepareError;
use task2::DeliveryError;

/// The states that run a function.
fn tasks() -> BTreeMap<String, Value> {
    states().into_iter().filter(|(_, state)| state["Type"] == "Task").collect()
}

/// What AWS says to retry on every `lambda:invoke`
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html>).
const SERVICE_ERRORS: [&str; 5] = [
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
];

fn states() -> BTreeMap<String, Value> {
    let template = options().template().expect("the template");
    let definition = json(&template.state_machines[0].definition);
    serde_json::from_value(definition["States"].clone()).expect("states")
}

fn retried(state: &Value) -> Vec<&str> {
    let retriers = state["Retry"].as_array().into_iter().flatten();
    let names = retriers.flat_map(|retrier| retrier["ErrorEquals"].as_array().into_iter().flatten());
    names.map(|name| name.as_str().expect("a name")).collect()
}

#[test]
fn each_state_retries_the_errors_that_another_attempt_may_help_and_no_other() {
    let own = BTreeMap::from([("Task1", PrepareError::RETRYABLE), ("Task2", DeliveryError::RETRYABLE)]);
    let of_every_step = [SERVICE_ERRORS.as_slice(), StepError::RETRYABLE].concat();
    let states = tasks();
    assert!(own.keys().all(|name| states.contains_key(*name)), "{:?}", states.keys());
    for (name, state) in &states {
        let retried = retried(state);
        let names: BTreeSet<_> = retried.iter().copied().collect();
        assert_eq!(retried.len(), names.len(), "{name}: a name that stands twice");
        let too_wide = names.iter().find(|name| name.starts_with("States."));
        assert_eq!(too_wide, None, "{name}: it would try again what no attempt can help");
        // What a step that somebody adds can end with is not known here.
        let known = own.get(name.as_str()).map(|own| [&of_every_step, *own].concat().into_iter().collect());
        assert_eq!(
            names,
            known.unwrap_or_else(|| names.iter().copied().chain(of_every_step.clone()).collect()),
            "{name}"
        );
    }
}

#[test]
fn no_name_means_two_errors() {
    let invalid = StepError::InvalidInput { line: 1, column: 1 };
    let sink = String::new;
    let names = [
        invalid.name(),
        StepError::InvalidOutput.name(),
        StepError::Timeout.name(),
        StepError::Panicked.name(),
        PrepareError::InvalidPayload(String::new()).name(),
        DeliveryError::Unavailable { sink: sink(), reason: String::new() }.name(),
        DeliveryError::Refused { sink: sink(), status: 400 }.name(),
    ];
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    for retryable in [StepError::RETRYABLE, PrepareError::RETRYABLE, DeliveryError::RETRYABLE].concat() {
        assert!(names.contains(&retryable), "{retryable} is the name of no error");
    }
}

#[test]
fn each_state_ends_in_time_and_can_be_redriven() {
    let template = options().template().expect("the template");
    for (name, state) in tasks() {
        let function = state["Parameters"]["FunctionName"].as_str().expect("an ARN");
        let function = template.functions.iter().find(|known| known.arn() == function).expect("one of ours");
        let timeout = Duration::from_secs(state["TimeoutSeconds"].as_u64().expect("seconds"));
        assert!(timeout > function.timeout, "{name}: its function says more of why it took too long");
        assert!(state.get("Catch").is_none(), "{name}: a redrive would begin after what is caught");
        for retrier in state["Retry"].as_array().expect("retriers") {
            assert_eq!(retrier["JitterStrategy"], "FULL", "{name}");
            assert!(retrier["MaxDelaySeconds"].is_u64(), "{name}");
        }
    }
}

#[test]
fn an_endpoint_that_is_away_is_tried_for_about_an_hour() {
    let states = tasks();
    let retriers = states["Task2"]["Retry"].as_array().expect("retriers");
    let is_delivery = |retrier: &&Value| retrier["ErrorEquals"][0] == "Delivery.Unavailable";
    let retrier = retriers.iter().find(is_delivery).expect("a retrier for deliveries");
    let number = |name: &str| retrier[name].as_f64().expect("a number");
    let attempts = retrier["MaxAttempts"].as_i64().expect("a number");
    let delays = (0..attempts).map(|nth| {
        let delay = number("IntervalSeconds") * number("BackoffRate").powi(i32::try_from(nth).expect("few"));
        delay.min(number("MaxDelaySeconds"))
    });
    // Full jitter takes anything between none and all of a delay.
    let mean = delays.sum::<f64>() / 2.0;
    assert!((3_000.0..4_200.0).contains(&mean), "{mean} s");
}
