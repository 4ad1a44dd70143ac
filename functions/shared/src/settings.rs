//! The environment of a function, read once, during init.
//!
//! Every variable that is ours is a constant here and a row of the README's table; the `AWS_*` ones belong to Lambda
//! and the SDK.

use std::fmt;

/// Names the deployment and so its functions and its state machine: letters, digits, `-` and `_`, at most
/// [`ENVIRONMENT_MAX`] of them.
pub const ENVIRONMENT: &str = "ENVIRONMENT";

/// The ARN of the state machine to start; where set, the trigger does not search for it by name.
pub const STATE_MACHINE_ARN: &str = "STATE_MACHINE_ARN";

/// The ARN of the queue whose messages are records of events that the trigger failed on; where not set, no event is
/// taken for a batch of them.
pub const ON_FAILURE_QUEUE_ARN: &str = "ON_FAILURE_QUEUE_ARN";

/// The `source` of the events that Task1 makes, a URI reference; [`EVENT_SOURCE_DEFAULT`] where it is not set.
pub const EVENT_SOURCE: &str = "EVENT_SOURCE";

/// See [`EVENT_SOURCE`].
pub const EVENT_SOURCE_DEFAULT: &str = "/trigger-workflow";

/// The `type` of the events that Task1 makes; [`EVENT_TYPE_DEFAULT`] where it is not set.
pub const EVENT_TYPE: &str = "EVENT_TYPE";

/// See [`EVENT_TYPE`].
pub const EVENT_TYPE_DEFAULT: &str = "workflow.triggered";

/// Where Task2 delivers events to: `https`, or `http` on this machine. Where it is not set, nothing is delivered.
pub const SINK_URL: &str = "SINK_URL";

/// What Task2 signs deliveries with: `whsec_` and 24 to 64 bytes in base64.
pub const WEBHOOK_SECRET: &str = "WEBHOOK_SECRET";

/// The longest name of an environment: with `trigger-lambda-` before it, it still fits the 64 characters of a
/// function name.
pub const ENVIRONMENT_MAX: usize = 40;

/// A variable that keeps a function from starting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set: set it on the function (template.yaml, Environment.Variables)")]
    Missing(&'static str),
    /// The variable is set to what it cannot be.
    #[error("the environment variable {name} is malformed: it must be {rule}")]
    Malformed {
        /// The variable.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

/// The function's name as Lambda gives it to every process; empty elsewhere.
#[must_use]
pub fn function_name(variable: impl Fn(&str) -> Option<String>) -> String {
    variable("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default()
}

/// Reads one variable of the process's environment; tests pass a function of their own where this one goes.
#[must_use]
pub fn from_process(name: &str) -> Option<String> {
    // What is not UTF-8 must not pass for unset: the replacement characters fail the variable's own rule.
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The name of a deployment, and the names that follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment(String);

impl Environment {
    /// Reads [`ENVIRONMENT`] through `variable`.
    ///
    /// # Errors
    /// The variable is missing or malformed.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let name = variable(ENVIRONMENT).ok_or(SettingError::Missing(ENVIRONMENT))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > ENVIRONMENT_MAX || !name.chars().all(allowed) {
            let rule = "1 to 40 letters, digits, - or _";
            return Err(SettingError::Malformed { name: ENVIRONMENT, rule });
        }
        Ok(Self(name))
    }

    /// The name of the function that starts workflows.
    #[must_use]
    pub fn trigger_function(&self) -> String {
        format!("trigger-lambda-{self}")
    }

    /// The name of the state machine.
    #[must_use]
    pub fn state_machine(&self) -> String {
        format!("orchestration-{self}")
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Reads [`STATE_MACHINE_ARN`] through `variable`; empty counts as not set, as a template's parameter leaves it.
///
/// # Errors
/// The variable is malformed.
pub fn state_machine_arn(variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, SettingError> {
    let rule = "an ARN of the form arn:PARTITION:states:REGION:ACCOUNT:stateMachine:NAME";
    arn(variable, STATE_MACHINE_ARN, rule, |service, resource| {
        service == "states" && matches!(resource.split_once(':'), Some(("stateMachine", name)) if is_name(name))
    })
}

/// Reads [`ON_FAILURE_QUEUE_ARN`] through `variable`; empty counts as not set.
///
/// # Errors
/// The variable is malformed.
pub fn on_failure_queue_arn(variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, SettingError> {
    let rule = "an ARN of the form arn:PARTITION:sqs:REGION:ACCOUNT:NAME";
    arn(variable, ON_FAILURE_QUEUE_ARN, rule, |service, resource| service == "sqs" && is_name(resource))
}

/// Reads an ARN of whose service and resource `is_right` holds.
fn arn(
    variable: impl Fn(&str) -> Option<String>,
    name: &'static str,
    rule: &'static str,
    is_right: impl Fn(&str, &str) -> bool,
) -> Result<Option<String>, SettingError> {
    let Some(arn) = variable(name).filter(|arn| !arn.is_empty()) else {
        return Ok(None);
    };
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, service, region, account, resource]
            if [partition, region, account].iter().all(|part| !part.is_empty()) && is_right(service, resource) =>
        {
            Ok(Some(arn))
        }
        _ => Err(SettingError::Malformed { name, rule }),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(':')
}

/// Reads [`EVENT_SOURCE`] through `variable`.
///
/// # Errors
/// The variable is malformed.
pub fn event_source(variable: impl Fn(&str) -> Option<String>) -> Result<String, SettingError> {
    // The characters that RFC 3986 (section 2) lets stand in a URI reference; what they make is not looked at.
    let allowed = |c: char| c.is_ascii_graphic() && !r#""<>\^`{|}"#.contains(c);
    let rule = "a URI reference of at most 256 characters, as in /orders or https://example.com/orders";
    attribute(variable, EVENT_SOURCE, EVENT_SOURCE_DEFAULT, rule, allowed)
}

/// Reads [`EVENT_TYPE`] through `variable`.
///
/// # Errors
/// The variable is malformed.
pub fn event_type(variable: impl Fn(&str) -> Option<String>) -> Result<String, SettingError> {
    let rule = "at most 256 visible ASCII characters, as in com.example.order.placed";
    attribute(variable, EVENT_TYPE, EVENT_TYPE_DEFAULT, rule, |c| c.is_ascii_graphic())
}

/// Reads an attribute of events; empty counts as not set. It is short, because each state's data holds it.
fn attribute(
    variable: impl Fn(&str) -> Option<String>,
    name: &'static str,
    default: &str,
    rule: &'static str,
    allowed: impl Fn(char) -> bool,
) -> Result<String, SettingError> {
    match variable(name).filter(|text| !text.is_empty()) {
        None => Ok(default.to_owned()),
        Some(text) if text.len() <= 256 && text.chars().all(allowed) => Ok(text),
        Some(_) => Err(SettingError::Malformed { name, rule }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(name: &'static str, value: &str) -> impl Fn(&str) -> Option<String> {
        move |asked| (asked == name).then(|| value.to_owned())
    }

    #[test]
    fn an_environment_names_what_belongs_to_it() {
        let dev = Environment::read(only(ENVIRONMENT, "dev")).expect("a name");
        assert_eq!(dev.trigger_function(), "trigger-lambda-dev");
        assert_eq!(dev.state_machine(), "orchestration-dev");
    }

    #[test]
    fn an_error_names_its_variable() {
        let missing = Environment::read(|_| None).expect_err("not set");
        assert!(missing.to_string().contains("ENVIRONMENT is not set"), "{missing}");
        for name in ["", "a b", "dév", "a:b", "\u{fffd}", &"x".repeat(ENVIRONMENT_MAX + 1)] {
            let malformed = Environment::read(only(ENVIRONMENT, name)).expect_err(name);
            assert!(malformed.to_string().contains("ENVIRONMENT is malformed"), "{malformed}");
        }
    }

    #[test]
    fn the_state_machine_may_be_given() {
        let arn = "arn:aws:states:eu-west-1:123456789012:stateMachine:orchestration-dev";
        assert_eq!(state_machine_arn(|_| None), Ok(None));
        assert_eq!(state_machine_arn(only(STATE_MACHINE_ARN, "")), Ok(None));
        assert_eq!(state_machine_arn(only(STATE_MACHINE_ARN, arn)), Ok(Some(arn.to_owned())));
        for malformed in ["orchestration-dev", "arn:aws:states:eu-west-1:123456789012:execution:a:b"] {
            let error = state_machine_arn(only(STATE_MACHINE_ARN, malformed)).expect_err(malformed);
            assert!(error.to_string().contains(STATE_MACHINE_ARN), "{error}");
        }
    }

    #[test]
    fn the_on_failure_queue_may_be_given() {
        let arn = "arn:aws:sqs:eu-west-1:123456789012:stack-OnFailureQueue-1ABC";
        assert_eq!(on_failure_queue_arn(|_| None), Ok(None));
        assert_eq!(on_failure_queue_arn(only(ON_FAILURE_QUEUE_ARN, "")), Ok(None));
        assert_eq!(on_failure_queue_arn(only(ON_FAILURE_QUEUE_ARN, arn)), Ok(Some(arn.to_owned())));
        for malformed in
            ["OnFailureQueue", "arn:aws:sqs:eu-west-1:123456789012:", "arn:aws:sns:eu-west-1:123456789012:a"]
        {
            let error = on_failure_queue_arn(only(ON_FAILURE_QUEUE_ARN, malformed)).expect_err(malformed);
            assert!(error.to_string().contains(ON_FAILURE_QUEUE_ARN), "{error}");
        }
    }

    #[test]
    fn an_event_has_a_source_and_a_type_that_may_be_set() {
        assert_eq!(event_source(|_| None).as_deref(), Ok(EVENT_SOURCE_DEFAULT));
        assert_eq!(event_source(only(EVENT_SOURCE, "urn:orders")).as_deref(), Ok("urn:orders"));
        for malformed in ["a b", "<a>", "\u{e9}", "a\n", &"a".repeat(257)] {
            let error = event_source(only(EVENT_SOURCE, malformed)).expect_err(malformed);
            assert!(error.to_string().contains(EVENT_SOURCE), "{error}");
        }
        assert_eq!(event_type(only(EVENT_TYPE, "")).as_deref(), Ok(EVENT_TYPE_DEFAULT));
        assert_eq!(event_type(only(EVENT_TYPE, "com.example.order")).as_deref(), Ok("com.example.order"));
        assert!(event_type(only(EVENT_TYPE, "a\tb")).is_err());
    }
}
