//! What `template.yaml` says, as far as one machine can run it.

mod intrinsics;

use crate::{ACCOUNT, Error, REGION, gateway};
use intrinsics::Intrinsics;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// How old an event gets where the template does not say: six hours
/// (<https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html>).
const MAX_EVENT_AGE_SECONDS: u64 = 21_600;

/// How long a received message stays hidden where the template does not say
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>).
const VISIBILITY_TIMEOUT_SECONDS: u64 = 30;

/// The suite as the template describes it, every reference resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// The functions, in the order of their logical ids.
    pub functions: Vec<Function>,
    /// The HTTP API's routes.
    pub routes: Vec<Route>,
    /// The state machines.
    pub state_machines: Vec<StateMachine>,
    /// The SQS queues.
    pub queues: Vec<Queue>,
    /// What leads messages of the queues to the functions.
    pub mappings: Vec<Mapping>,
}

/// A Lambda function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its key below `Resources`.
    pub logical_id: String,
    /// Its `FunctionName`.
    pub name: String,
    /// The folder of its crate.
    pub code: PathBuf,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// Its memory in MB. Told to the function, not enforced.
    pub memory: u64,
    /// Its own environment variables.
    pub variables: BTreeMap<String, String>,
    /// Whether `LoggingConfig` asks for JSON.
    pub json_log: bool,
    /// Its asynchronous invocation settings.
    pub asynchronous: Asynchronous,
}

/// What becomes of an event that a function fails on.
#[derive(Clone, Debug, PartialEq)]
pub struct Asynchronous {
    /// How often it is tried again.
    pub retries: u32,
    /// How old it may be when it is tried again.
    pub max_age: Duration,
    /// The name of the SQS queue that its record goes to in the end.
    pub on_failure: Option<String>,
}

/// One route of the HTTP API.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The method in capitals, or `ANY`.
    pub method: String,
    /// The path with its `{parameters}`; `$default` takes what no other route does.
    pub path: String,
    /// The name of the function behind it.
    pub function: String,
}

/// An SQS queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How long a message that was received stays hidden, in seconds.
    pub visibility_timeout: u64,
}

/// An event source mapping from a queue to a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The queue's name.
    pub queue: String,
    /// The function's name.
    pub function: String,
    /// How many messages an event has at most: 1 to 10.
    pub batch_size: i32,
    /// Whether messages are led on from the start.
    pub enabled: bool,
    /// Whether the function tells which messages of a batch it failed on.
    pub reports_failures: bool,
}

/// A state machine with its definition, substitutions made.
#[derive(Clone, Debug, PartialEq)]
pub struct StateMachine {
    /// Its `Name`.
    pub name: String,
    /// The Amazon States Language text.
    pub definition: String,
}

impl Template {
    /// Reads the template at `path`, with `parameters` over its defaults.
    ///
    /// # Errors
    /// The template, or a definition that it refers to, is missing or says what cannot be run here.
    pub fn read(path: &Path, parameters: &BTreeMap<String, String>) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|error| Error::Unreadable(path.to_owned(), error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder, parameters).map_err(Error::Template)
    }

    /// The function of this logical id or name.
    ///
    /// # Errors
    /// There is none.
    pub fn function(&self, name: &str) -> Result<&Function, Error> {
        let functions = &self.functions;
        functions.iter().find(|function| function.logical_id == name || function.name == name).ok_or_else(|| {
            let known: Vec<_> = functions.iter().map(|function| function.logical_id.as_str()).collect();
            Error::UnknownFunction(name.to_owned(), known.join(", "))
        })
    }

    fn parse(text: &str, folder: &Path, parameters: &BTreeMap<String, String>) -> Result<Self, String> {
        let document = intrinsics::long_form(text)?;
        // serde_json keeps the keys of a map in an order that differs by what else is built.
        let resources: BTreeMap<_, _> = object(&document, "Resources")?.iter().collect();
        let globals = document.pointer("/Globals/Function").cloned().unwrap_or_default();
        let intrinsics = Intrinsics::new(&document, parameters)?;
        let mut template = Self::default();
        let mut integrations = BTreeMap::new();
        for (logical_id, resource) in resources {
            let within = |error: String| format!("{logical_id}: {error}");
            if let Some(condition) = resource.get("Condition").and_then(Value::as_str)
                && !intrinsics.condition(condition).map_err(within)?
            {
                continue;
            }
            let kind = resource.get("Type").and_then(Value::as_str);
            let globals = if kind == Some("AWS::Serverless::Function") { &globals } else { &Value::Null };
            let resource = Reader { logical_id, resource, globals, intrinsics: &intrinsics };
            match kind {
                Some("AWS::Serverless::Function") => {
                    template.functions.push(resource.function(folder).map_err(within)?);
                }
                Some("AWS::ApiGatewayV2::Route") => template.routes.push(resource.route().map_err(within)?),
                Some("AWS::ApiGatewayV2::Integration") => {
                    integrations.insert(logical_id.clone(), resource.integration().map_err(within)?);
                }
                Some("AWS::Serverless::StateMachine") => {
                    template.state_machines.push(resource.state_machine(folder).map_err(within)?);
                }
                Some("AWS::SQS::Queue") => template.queues.push(resource.queue().map_err(within)?),
                Some("AWS::Lambda::EventSourceMapping") => {
                    template.mappings.push(resource.mapping().map_err(within)?);
                }
                _ => {}
            }
        }
        for route in &mut template.routes {
            let function = integrations.get(&route.function);
            route.function = function.ok_or_else(|| format!("{}: it has no integration", route.key()))?.clone();
        }
        gateway::check(&template.routes)?;
        for Mapping { queue, function, .. } in &template.mappings {
            if !template.queues.iter().any(|known| known.name == *queue) {
                return Err(format!("an event source mapping reads the queue {queue}, and the template has none"));
            }
            if !template.functions.iter().any(|known| known.name == *function) {
                return Err(format!(
                    "an event source mapping invokes the function {function}, and the template has none"
                ));
            }
        }
        Ok(template)
    }
}

impl Function {
    /// The ARN that the function has here.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", self.name)
    }
}

impl Route {
    /// What API Gateway calls it.
    #[must_use]
    pub fn key(&self) -> String {
        match self.path.as_str() {
            "$default" => self.path.clone(),
            path => format!("{} {path}", self.method),
        }
    }
}

impl StateMachine {
    /// The ARN that the state machine has here.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{}", self.name)
    }
}

/// One resource, its properties read by name.
struct Reader<'a> {
    logical_id: &'a str,
    resource: &'a Value,
    globals: &'a Value,
    intrinsics: &'a Intrinsics<'a>,
}

impl Reader<'_> {
    fn function(&self, folder: &Path) -> Result<Function, String> {
        let code = self.text("CodeUri")?.ok_or("CodeUri is missing: name the folder of the function's crate")?;
        let events = self.resource.pointer("/Properties/Events").and_then(Value::as_object);
        if events.into_iter().flatten().any(|(_, event)| event["Type"] == "HttpApi") {
            return Err("Events: on one machine a route is an AWS::ApiGatewayV2::Route of its own".to_owned());
        }
        let mut variables = BTreeMap::new();
        for source in
            [self.globals.pointer("/Environment/Variables"), self.resource.pointer("/Properties/Environment/Variables")]
        {
            for (name, value) in source.and_then(Value::as_object).into_iter().flatten() {
                if let Some(value) = self.intrinsics.optional_text(value).map_err(|error| format!("{name}: {error}"))? {
                    variables.insert(name.clone(), value);
                }
            }
        }
        let asynchronous = self.property("EventInvokeConfig")?;
        let on_failure = asynchronous.pointer("/DestinationConfig/OnFailure/Destination").cloned();
        let on_failure = match on_failure {
            Some(Value::String(arn)) if arn.contains(":sqs:") => arn.rsplit(':').next().map(str::to_owned),
            Some(_) => {
                return Err(
                    "EventInvokeConfig: on one machine the on-failure destination can be an SQS queue alone".to_owned()
                );
            }
            None => None,
        };
        let retries = number("MaximumRetryAttempts", &asynchronous["MaximumRetryAttempts"])?.unwrap_or(2);
        let max_age = number("MaximumEventAgeInSeconds", &asynchronous["MaximumEventAgeInSeconds"])?;
        Ok(Function {
            logical_id: self.logical_id.to_owned(),
            name: self.intrinsics.name_of(self.logical_id)?,
            code: folder.join(code),
            timeout: Duration::from_secs(number("Timeout", &self.property("Timeout")?)?.unwrap_or(3)),
            memory: number("MemorySize", &self.property("MemorySize")?)?.unwrap_or(128),
            variables,
            json_log: self.property("LoggingConfig")?["LogFormat"] == "JSON",
            asynchronous: Asynchronous {
                retries: u32::try_from(retries).map_err(|_| format!("MaximumRetryAttempts cannot be {retries}"))?,
                max_age: Duration::from_secs(max_age.unwrap_or(MAX_EVENT_AGE_SECONDS)),
                on_failure,
            },
        })
    }

    /// The route, with the logical id of its integration in place of the function.
    fn route(&self) -> Result<Route, String> {
        let key = self.text("RouteKey")?.ok_or("RouteKey is missing")?;
        let (method, path) = match key.split_once(' ') {
            Some((method, path)) => (method.to_uppercase(), path.to_owned()),
            None => ("ANY".to_owned(), key),
        };
        let target = self.text("Target")?.unwrap_or_default();
        let integration =
            target.strip_prefix("integrations/").ok_or("Target must be integrations/ and an integration")?;
        Ok(Route { method, path, function: integration.to_owned() })
    }

    /// The name of the function that an integration leads to.
    fn integration(&self) -> Result<String, String> {
        let uri = self.text("IntegrationUri")?.unwrap_or_default();
        match uri.split_once(":function:") {
            Some((_, name)) if !name.contains([':', '/']) => Ok(name.to_owned()),
            _ => Err("IntegrationUri: on one machine an integration can be a function alone, by its ARN".to_owned()),
        }
    }

    fn state_machine(&self, folder: &Path) -> Result<StateMachine, String> {
        let uri = self.text("DefinitionUri")?.ok_or("DefinitionUri is missing: name the definition's file")?;
        let path = folder.join(uri);
        let mut definition =
            fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let substitutions = self.property("DefinitionSubstitutions")?;
        for (name, value) in substitutions.as_object().into_iter().flatten() {
            definition = definition.replace(&format!("${{{name}}}"), &self.intrinsics.text(value)?);
        }
        if let Some((_, rest)) = definition.split_once("${") {
            let name = rest.split('}').next().unwrap_or(rest);
            return Err(format!("{} has ${{{name}}}, and DefinitionSubstitutions does not", path.display()));
        }
        serde_json::from_str::<Value>(&definition).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(StateMachine { name: self.intrinsics.name_of(self.logical_id)?, definition })
    }

    fn queue(&self) -> Result<Queue, String> {
        let visibility_timeout = number("VisibilityTimeout", &self.property("VisibilityTimeout")?)?;
        let name = self.intrinsics.name_of(self.logical_id)?;
        Ok(Queue { name, visibility_timeout: visibility_timeout.unwrap_or(VISIBILITY_TIMEOUT_SECONDS) })
    }

    fn mapping(&self) -> Result<Mapping, String> {
        // The name is the last part of an ARN.
        let name = |property: &str| match self.text(property)? {
            Some(text) => Ok(text.rsplit(':').next().unwrap_or_default().to_owned()),
            None => Err(format!("{property} is missing")),
        };
        if !self.text("EventSourceArn")?.is_some_and(|arn| arn.contains(":sqs:")) {
            return Err("EventSourceArn: on one machine an event source can be an SQS queue alone".to_owned());
        }
        let batch_size = number("BatchSize", &self.property("BatchSize")?)?.unwrap_or(10);
        let in_bounds = i32::try_from(batch_size).ok().filter(|size| (1..=10).contains(size));
        let batch_size = in_bounds
            .ok_or_else(|| format!("BatchSize: on one machine an event has 1 to 10 messages, not {batch_size}"))?;
        let enabled = match self.property("Enabled")? {
            Value::Null => true,
            Value::Bool(enabled) => enabled,
            Value::String(text) if text == "true" || text == "false" => text == "true",
            other => return Err(format!("Enabled must be true or false, not {other}")),
        };
        let response_types = self.property("FunctionResponseTypes")?;
        Ok(Mapping {
            queue: name("EventSourceArn")?,
            function: name("FunctionName")?,
            batch_size,
            enabled,
            reports_failures: response_types.as_array().into_iter().flatten().any(|t| t == "ReportBatchItemFailures"),
        })
    }

    /// The property, from the resource or else from the globals, resolved; `Null` where neither has it.
    fn property(&self, name: &str) -> Result<Value, String> {
        let own = self.resource.pointer("/Properties").and_then(|properties| properties.get(name));
        let value = own.or_else(|| self.globals.get(name));
        value
            .map_or(Ok(Value::Null), |value| self.intrinsics.resolve(value))
            .map_err(|error| format!("{name}: {error}"))
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.property(name)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => Err(format!("{name} must be text, not {other}")),
        }
    }
}

fn number(name: &str, value: &Value) -> Result<Option<u64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| format!("{name} must be a number, not {text}")),
        value => value.as_u64().map(Some).ok_or_else(|| format!("{name} must be a number, not {value}")),
    }
}

fn object<'a>(value: &'a Value, key: &str) -> Result<&'a Map<String, Value>, String> {
    value.get(key).and_then(Value::as_object).ok_or_else(|| format!("there is no section {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    fn ours() -> Template {
        let parameters = BTreeMap::from([("Environment".to_owned(), "test".to_owned())]);
        Template::read(&Path::new(PROJECT).join("template.yaml"), &parameters).expect("the template of the suite")
    }

    #[test]
    fn the_suite_is_read_from_its_template() {
        let template = ours();
        let functions: BTreeMap<_, _> = template.functions.iter().map(|f| (f.logical_id.as_str(), f)).collect();
        for (logical_id, name) in [
            ("ApiFunction", "api-test"),
            ("Task1Function", "Task1-test"),
            ("Task2Function", "Task2-test"),
            ("TriggerFunction", "trigger-lambda-test"),
        ] {
            assert_eq!(functions[logical_id].name, name);
        }
        let trigger = functions["TriggerFunction"];
        let queue_arn = "arn:aws:sqs:us-east-1:123456789012:OnFailureQueue".to_owned();
        let variables = [("ENVIRONMENT".to_owned(), "test".to_owned()), ("ON_FAILURE_QUEUE_ARN".to_owned(), queue_arn)];
        assert_eq!(trigger.variables, BTreeMap::from(variables));
        assert_eq!(trigger.timeout, Duration::from_secs(30));
        assert!(trigger.json_log && trigger.code.ends_with("functions/trigger"));
        let on_failure = Some("OnFailureQueue".to_owned());
        assert_eq!(trigger.asynchronous, Asynchronous { retries: 2, max_age: Duration::from_hours(6), on_failure });
        let (queue, function) = ("OnFailureQueue".to_owned(), "trigger-lambda-test".to_owned());
        assert_eq!(template.queues, [Queue { name: queue.clone(), visibility_timeout: 180 }]);
        let mapping = Mapping { queue, function, batch_size: 10, enabled: false, reports_failures: true };
        assert_eq!(template.mappings, [mapping]);
        assert_eq!(template.state_machines[0].name, "orchestration-test");
        let task1 = "arn:aws:lambda:us-east-1:123456789012:function:Task1-test";
        assert!(template.state_machines[0].definition.contains(task1));
        assert!(!functions["Task2Function"].variables.contains_key("WEBHOOK_SECRET"), "there is no sink");
        let post =
            Route { method: "POST".to_owned(), path: "/trigger-workflow".to_owned(), function: "api-test".to_owned() };
        assert!(template.routes.contains(&post), "{:?}", template.routes);
    }

    #[test]
    fn a_wrong_template_is_told_in_one_line() {
        for (text, expected) in [
            ("Resources: [", "line"),
            ("Parameters: {}", "no section Resources"),
            ("Resources: {F: {Type: AWS::Serverless::Function}}", "F: CodeUri is missing"),
            (
                "Resources: {F: {Type: AWS::Serverless::Function, Properties: {CodeUri: !Ref Nothing}}}",
                "F: CodeUri: !Ref Nothing names neither a parameter nor a resource",
            ),
            (
                "Resources: {F: {Type: AWS::Serverless::Function, Properties: {CodeUri: f, Timeout: soon}}}",
                "F: Timeout must be a number",
            ),
            (
                "Resources: {F: {Type: AWS::Serverless::Function, Properties: {CodeUri: f, EventInvokeConfig: {MaximumRetryAttempts: one}}}}",
                "F: MaximumRetryAttempts must be a number, not one",
            ),
            (
                "Resources: {M: {Type: AWS::Lambda::EventSourceMapping, Properties: {EventSourceArn: 'arn:aws:sqs:r:a:q'}}}",
                "M: FunctionName is missing",
            ),
            (
                "Resources: {M: {Type: AWS::Lambda::EventSourceMapping, Properties: {EventSourceArn: 'a:sqs:q', FunctionName: f}}}",
                "reads the queue q, and the template has none",
            ),
            (
                "Resources: {Q: {Type: AWS::SQS::Queue}, M: {Type: AWS::Lambda::EventSourceMapping, Properties: {EventSourceArn: !GetAtt Q.Arn, FunctionName: 'f:live'}}}",
                "invokes the function live, and the template has none",
            ),
            (
                "Resources: {M: {Type: AWS::Lambda::EventSourceMapping, Properties: {EventSourceArn: 'arn:aws:kinesis:r:a:s'}}}",
                "M: EventSourceArn: on one machine an event source can be an SQS queue alone",
            ),
            (
                "Resources: {M: {Type: AWS::Lambda::EventSourceMapping, Properties: {EventSourceArn: 'a:sqs:q', Enabled: soon}}}",
                "M: Enabled must be true or false",
            ),
            (
                "Resources: {F: {Type: AWS::Serverless::Function, Properties: {CodeUri: f, Events: {E: {Type: HttpApi}}}}}",
                "F: Events: on one machine a route is an AWS::ApiGatewayV2::Route",
            ),
            ("Resources: {R: {Type: AWS::ApiGatewayV2::Route}}", "R: RouteKey is missing"),
            (
                "Resources: {R: {Type: AWS::ApiGatewayV2::Route, Properties: {RouteKey: GET /a, Target: I}}}",
                "R: Target must be integrations/",
            ),
            (
                "Resources: {R: {Type: AWS::ApiGatewayV2::Route, Properties: {RouteKey: GET /a, Target: integrations/I}}}",
                "GET /a: it has no integration",
            ),
            (
                "Resources: {I: {Type: AWS::ApiGatewayV2::Integration, Properties: {IntegrationUri: 'https://example.com'}}}",
                "I: IntegrationUri: on one machine",
            ),
            ("Resources: {Q: {Type: AWS::SQS::Queue, Condition: Gone}}", "Q: there is no condition Gone"),
            (
                "Resources: {M: {Type: AWS::Serverless::StateMachine, Properties: {DefinitionUri: missing.json}}}",
                "missing.json cannot be read",
            ),
        ] {
            let error = Template::parse(text, Path::new("."), &BTreeMap::new()).expect_err(text);
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_resource_whose_condition_is_false_is_not_there() {
        let text = r"
Conditions: {Yes: !Equals [a, a], No: !Equals [a, b]}
Resources:
  Q: {Type: AWS::SQS::Queue, Condition: Yes}
  R: {Type: AWS::SQS::Queue, Condition: No}
  F: {Type: AWS::Serverless::Function, Properties: {CodeUri: f, EventInvokeConfig: {MaximumRetryAttempts: '1', MaximumEventAgeInSeconds: 60}}}
";
        let template = Template::parse(text, Path::new("."), &BTreeMap::new()).expect("a template");
        assert_eq!(template.queues, [Queue { name: "Q".to_owned(), visibility_timeout: 30 }]);
        let expected = Asynchronous { retries: 1, max_age: Duration::from_mins(1), on_failure: None };
        assert_eq!(template.functions[0].asynchronous, expected);
    }

    #[test]
    fn a_route_that_cannot_be_served_is_named() {
        for (keys, expected) in [
            (["GET hello", "GET /a"], "GET hello: its path must begin with /"),
            (["GET /a", "get /a"], "the route GET /a is there twice"),
            (["GET /a", "FETCH /a"], "FETCH is no method"),
            (["GET /{a}/b", "POST /{c}/b"], "conflict"),
            (["GET /{a", "POST /b"], "/{a"),
            (["$default", "$default"], "the route $default is there twice"),
        ] {
            let [a, b] = keys.map(|key| {
                format!("{{Type: AWS::ApiGatewayV2::Route, Properties: {{RouteKey: '{key}', Target: integrations/I}}}}")
            });
            let integration = "{Type: AWS::ApiGatewayV2::Integration, Properties: {IntegrationUri: 'a:function:f'}}";
            let text = format!("Resources: {{A: {a}, B: {b}, I: {integration}}}");
            let error = Template::parse(&text, Path::new("."), &BTreeMap::new()).expect_err(&text);
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        let parameters = BTreeMap::from([("Enviroment".to_owned(), "test".to_owned())]);
        let error = Template::parse("Resources: {}", Path::new("."), &parameters).expect_err("a slip of the pen");
        assert!(error.contains("Enviroment"), "{error}");
    }
}
