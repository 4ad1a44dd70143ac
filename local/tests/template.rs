//! What the promise asks of the template.

use serde_yaml_ng::Value;

fn properties(resource: &str) -> Value {
    let template: Value = serde_yaml_ng::from_str(include_str!("../../template.yaml")).expect("YAML");
    template["Resources"][resource]["Properties"].clone()
}

#[test]
fn what_fails_is_kept_encrypted_for_14_days() {
    let queue = properties("OnFailureQueue");
    assert_eq!(queue["MessageRetentionPeriod"], 14 * 24 * 60 * 60);
    assert_eq!(queue["SqsManagedSseEnabled"], true);
    // A FIFO queue takes no records.
    assert!(queue.get("FifoQueue").is_none());
    let timeout = properties("TriggerFunction")["Timeout"].as_u64().expect("seconds");
    assert!(queue["VisibilityTimeout"].as_u64().is_some_and(|hidden| hidden >= 6 * timeout), "as AWS advises");
    let template: Value = serde_yaml_ng::from_str(include_str!("../../template.yaml")).expect("YAML");
    assert_eq!(template["Resources"]["OnFailureQueue"]["DeletionPolicy"], "RetainExceptOnCreate");
}

#[test]
fn an_event_is_tried_three_times_within_six_hours_and_no_alias_comes_between() {
    let trigger = properties("TriggerFunction");
    let asynchronous = &trigger["EventInvokeConfig"];
    assert_eq!(asynchronous["MaximumRetryAttempts"], 2);
    assert_eq!(asynchronous["MaximumEventAgeInSeconds"], 6 * 60 * 60);
    assert_eq!(asynchronous["DestinationConfig"]["OnFailure"]["Type"], "SQS");
    // With an alias, SAM makes these settings the alias's, and the API invokes the function without one.
    let template = include_str!("../../template.yaml");
    assert!(!template.contains("AutoPublishAlias"));
}

#[test]
fn the_redrive_is_off_until_someone_switches_it_on_and_keeps_what_fails() {
    let template: Value = serde_yaml_ng::from_str(include_str!("../../template.yaml")).expect("YAML");
    assert_eq!(template["Parameters"]["RedriveFailed"]["Default"], "false");
    let mapping = properties("RedriveMapping");
    assert_eq!(mapping["FunctionResponseTypes"][0], "ReportBatchItemFailures");
}
