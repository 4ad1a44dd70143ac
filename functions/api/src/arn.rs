//! ARNs: made from the function's own, and kept out of answers.

use crate::ApiError;
use axum::{extract::FromRequestParts, http::request::Parts};
use lambda_http::RequestExt;
use shared::WorkflowId;
use std::convert::Infallible;

/// The ARN under which the function was invoked (`arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME`): what it works
/// with lives in the same partition, region and account.
pub(crate) struct FunctionArn(String);

impl FunctionArn {
    /// The ARN of a state machine.
    pub(crate) fn state_machine(&self, name: &str) -> Result<String, ApiError> {
        self.of_states(&format!("stateMachine:{name}"))
    }

    /// The ARN of a workflow's execution.
    pub(crate) fn execution(&self, state_machine: &str, id: &WorkflowId) -> Result<String, ApiError> {
        self.of_states(&format!("execution:{state_machine}:{id}"))
    }

    /// `text`, which is AWS's or a step's, without what a caller has no business with: each ARN is cut down to `arn:…`,
    /// and the account number is gone from the rest.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let mut rest = text;
        let mut kept = String::with_capacity(text.len());
        while let Some(start) = rest.find("arn:aws") {
            let (before, arn) = rest.split_at(start);
            let in_arn = |c: char| c.is_ascii_alphanumeric() || "-_:/.*+=@$".contains(c);
            kept.push_str(before);
            kept.push_str("arn:…");
            rest = arn.trim_start_matches(in_arn);
        }
        kept.push_str(rest);
        match self.0.split(':').nth(4) {
            Some(account) if !account.is_empty() => kept.replace(account, "…"),
            _ => kept,
        }
    }

    fn of_states(&self, resource: &str) -> Result<String, ApiError> {
        match self.0.split(':').collect::<Vec<_>>()[..] {
            ["arn", partition, "lambda", region, account, ..] => {
                Ok(format!("arn:{partition}:states:{region}:{account}:{resource}"))
            }
            _ => Err(ApiError::internal("the invoked function's ARN is not of Lambda's form")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for FunctionArn {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.lambda_context_ref().map(|context| context.invoked_function_arn.clone()).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_functions_is_where_the_function_is() {
        let id = WorkflowId::mint();
        let function = FunctionArn("arn:aws-cn:lambda:cn-north-1:123456789012:function:api-dev:live".to_owned());
        let of_states = |resource: String| format!("arn:aws-cn:states:cn-north-1:123456789012:{resource}");
        let execution = function.execution("orchestration-dev", &id).expect("an ARN");
        assert_eq!(execution, of_states(format!("execution:orchestration-dev:{id}")));
        let state_machine = function.state_machine("orchestration-dev").expect("an ARN");
        assert_eq!(state_machine, of_states("stateMachine:orchestration-dev".to_owned()));
        assert!(FunctionArn("api-dev".to_owned()).execution("orchestration-dev", &id).is_err());
    }

    #[test]
    fn a_text_loses_its_arns_and_the_account_and_nothing_else() {
        let function = FunctionArn("arn:aws:lambda:eu-west-1:123456789012:function:api-dev".to_owned());
        for (text, expected) in [
            (
                "User: arn:aws:sts::210987654321:assumed-role/a/b may not call arn:aws-cn:lambda:x (403)",
                "User: arn:… may not call arn:… (403)",
            ),
            ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "https://sqs.eu-west-1.amazonaws.com/…/q"),
            ("warn:disk/full", "warn:disk/full"),
            ("plain", "plain"),
        ] {
            assert_eq!(function.redacted(text), expected);
        }
    }
}
