//! ARNs: made from the function's own, and kept out of answers.

use crate::ApiError;
use shared::WorkflowId;

/// The ARN of a workflow's execution, in the partition, region and account of the invoked function
/// (`arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME`).
pub(super) fn execution(function_arn: &str, state_machine: &str, id: &WorkflowId) -> Result<String, ApiError> {
    let mut parts = function_arn.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("arn"), Some(partition), Some("lambda"), Some(region), Some(account)) => {
            Ok(format!("arn:{partition}:states:{region}:{account}:execution:{state_machine}:{id}"))
        }
        _ => Err(ApiError::internal("the invoked function's ARN is not of Lambda's form")),
    }
}

/// `text` with every ARN in it, account number and all, cut down to `arn:…`.
pub(super) fn without_arns(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(start) = rest.find("arn:") {
        let (before, arn) = rest.split_at(start);
        let in_arn = |c: char| c.is_ascii_alphanumeric() || "-_:/.*+=@$".contains(c);
        kept.push_str(before);
        kept.push_str("arn:…");
        rest = arn.trim_start_matches(in_arn);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_lives_where_the_function_does() {
        let id = WorkflowId::mint();
        let arn =
            execution("arn:aws-cn:lambda:cn-north-1:123456789012:function:api-dev:live", "orchestration-dev", &id)
                .expect("an ARN");
        assert_eq!(arn, format!("arn:aws-cn:states:cn-north-1:123456789012:execution:orchestration-dev:{id}"));
        assert!(execution("api-dev", "orchestration-dev", &id).is_err());
    }

    #[test]
    fn a_cause_loses_its_arns_and_nothing_else() {
        let cause = "User: arn:aws:sts::123456789012:assumed-role/a/b may not call arn:aws:lambda:eu-west-1:123456789012:function:Task1-dev (403)";
        assert_eq!(without_arns(cause), "User: arn:… may not call arn:… (403)");
        assert_eq!(without_arns("learn: it failed"), "learn: it failed".replace("arn:", "arn:…"));
        assert_eq!(without_arns("plain"), "plain");
    }
}
