//! The suite's own metrics: each is a line of the log in CloudWatch's embedded metric format, and so costs no call
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).

use crate::settings;
use serde_json::Value;
use std::{
    io::{Write, stdout},
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// Where CloudWatch has the metrics, each of them by the function's name as `FunctionName`.
pub const NAMESPACE: &str = "Orchestration";

/// What is counted. The metric has the variant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests that were accepted and handed to the trigger.
    WorkflowsTriggered,
    /// Requests under an idempotency key whose workflow had started before.
    WorkflowsReplayed,
    /// Events that an execution was started for.
    WorkflowsStarted,
    /// Events whose execution had started, and ended, before.
    WorkflowsAlreadyStarted,
    /// Events whose id belongs to a workflow with another input.
    WorkflowIdConflicts,
    /// Deliveries that the endpoint took.
    DeliveriesAccepted,
    /// Deliveries that the endpoint could not take then: each attempt counts.
    DeliveriesUnavailable,
    /// Deliveries that the endpoint does not want.
    DeliveriesRefused,
}

impl Metric {
    /// Counts one.
    pub fn count(self) {
        static FUNCTION: LazyLock<String> = LazyLock::new(|| settings::function_name(settings::from_process));
        // In one piece, so that no other line comes between; a log that is gone takes no metrics either.
        let _ = writeln!(stdout(), "{}", self.line(&FUNCTION, SystemTime::now()));
    }

    fn line(self, function: &str, now: SystemTime) -> String {
        let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let function = Value::from(function);
        format!(
            r#"{{"_aws":{{"Timestamp":{millis},"CloudWatchMetrics":[{{"Namespace":"{NAMESPACE}","Dimensions":[["FunctionName"]],"Metrics":[{{"Name":"{self:?}","Unit":"Count"}}]}}]}},"FunctionName":{function},"{self:?}":1}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_count_is_a_line_in_embedded_metric_format() {
        let line = Metric::WorkflowsStarted.line("trigger-lambda-dev", UNIX_EPOCH + Duration::from_millis(1_500));
        assert!(line.starts_with(r#"{"_aws":"#) && !line.contains('\n'), "{line}");
        assert_eq!(
            serde_json::from_str::<Value>(&line).expect("JSON"),
            json!({
                "_aws": {
                    "Timestamp": 1_500,
                    "CloudWatchMetrics": [{
                        "Namespace": "Orchestration",
                        "Dimensions": [["FunctionName"]],
                        "Metrics": [{ "Name": "WorkflowsStarted", "Unit": "Count" }]
                    }]
                },
                "FunctionName": "trigger-lambda-dev",
                "WorkflowsStarted": 1
            })
        );
    }
}
