//! CloudFormation's intrinsic functions, resolved for one machine.

use crate::{ACCOUNT, REGION};
use serde_json::{Map, Value, json};
use serde_yaml_ng::Value as Yaml;
use std::collections::BTreeMap;

/// Stands for every secret of Secrets Manager that the template refers to: as long as those that it makes.
const SECRET: &str = "LocalSecretLocalSecretLocalSecretLocalSecret";

/// The document as JSON, each `!Tag` in its long form.
pub(super) fn long_form(text: &str) -> Result<Value, String> {
    json(serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?)
}

fn json(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Sequence(items) => items.into_iter().map(json).collect::<Result<Vec<_>, _>>()?.into(),
        Yaml::Mapping(entries) => {
            let entries = entries.into_iter().map(|(key, value)| match key {
                Yaml::String(key) => Ok((key, json(value)?)),
                key => Err(format!("the key {key:?} is not text")),
            });
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let tag = tag.trim_start_matches('!');
            let value = match (tag, json(tagged.value)?) {
                ("GetAtt", Value::String(path)) => match path.split_once('.') {
                    Some((resource, attribute)) => json!([resource, attribute]),
                    None => return Err(format!("!GetAtt {path} names no attribute")),
                },
                (_, value) => value,
            };
            let key = if matches!(tag, "Ref" | "Condition") { tag.to_owned() } else { format!("Fn::{tag}") };
            json!({ key: value })
        }
        scalar => serde_json::to_value(scalar).map_err(|error| error.to_string())?,
    })
}

/// What the intrinsic functions of one template refer to.
pub(super) struct Intrinsics<'a> {
    parameters: BTreeMap<&'a str, Value>,
    resources: &'a Value,
    conditions: &'a Value,
}

impl<'a> Intrinsics<'a> {
    pub(super) fn new(document: &'a Value, given: &BTreeMap<String, String>) -> Result<Self, String> {
        let declared = document["Parameters"].as_object();
        let mut parameters: BTreeMap<&str, Value> = declared
            .into_iter()
            .flatten()
            .map(|(name, parameter)| (name.as_str(), parameter["Default"].clone()))
            .collect();
        for (name, value) in given {
            let Some(parameter) = parameters.get_mut(name.as_str()) else {
                return Err(format!("there is no parameter {name}"));
            };
            *parameter = Value::String(value.clone());
        }
        Ok(Self { parameters, resources: &document["Resources"], conditions: &document["Conditions"] })
    }

    /// `value` with every intrinsic function in it carried out.
    pub(super) fn resolve(&self, value: &Value) -> Result<Value, String> {
        match value {
            Value::Array(items) => {
                let items = items.iter().map(|item| self.resolve(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(items.into_iter().filter(|item| !is_no_value(item)).collect())
            }
            Value::Object(entries) => match single(entries) {
                Some((name, argument)) if name == "Ref" || name == "Condition" || name.starts_with("Fn::") => {
                    self.call(name, argument)
                }
                _ => {
                    let mut resolved = Map::new();
                    for (key, value) in entries {
                        let value = self.resolve(value)?;
                        if !is_no_value(&value) {
                            resolved.insert(key.clone(), value);
                        }
                    }
                    Ok(Value::Object(resolved))
                }
            },
            scalar => Ok(scalar.clone()),
        }
    }

    /// `value` resolved to text; numbers and booleans are written out, as in an environment variable.
    pub(super) fn text(&self, value: &Value) -> Result<String, String> {
        self.optional_text(value)?.ok_or_else(|| format!("{value} is no text"))
    }

    /// The same, and `None` for what is `AWS::NoValue`.
    pub(super) fn optional_text(&self, value: &Value) -> Result<Option<String>, String> {
        match self.resolve(value)? {
            Value::String(text) => dynamic(&text).map(Some),
            resolved if is_no_value(&resolved) => Ok(None),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(format!("{value} is no text")),
            scalar => Ok(Some(scalar.to_string())),
        }
    }

    /// The physical name of a resource: as its properties say, or else its logical id.
    pub(super) fn name_of(&self, logical_id: &str) -> Result<String, String> {
        let properties = &self.resources[logical_id]["Properties"];
        for key in ["FunctionName", "QueueName", "Name", "TopicName"] {
            if let Some(name) = properties.get(key) {
                return self.text(name);
            }
        }
        Ok(logical_id.to_owned())
    }

    fn call(&self, name: &str, argument: &Value) -> Result<Value, String> {
        let is_true = |condition: &Value| self.resolve(condition).map(|value| value == true);
        match (name, argument) {
            ("Ref", Value::String(target)) => self.reference(target),
            ("Fn::Sub", Value::String(text)) => self.substitute(text, &Value::Null),
            ("Fn::Sub", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(text), names] => self.substitute(text, &self.resolve(names)?),
                _ => Err(format!("Fn::Sub cannot take {argument}")),
            },
            ("Fn::GetAtt", Value::Array(path)) => match path.as_slice() {
                [Value::String(resource), Value::String(attribute)] => self.attribute(resource, attribute),
                _ => Err(format!("Fn::GetAtt cannot take {argument}")),
            },
            ("Fn::Join", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(separator), Value::Array(items)] => {
                    // A dynamic reference may be what they are joined to.
                    let items = items.iter().map(|item| match self.resolve(item)? {
                        Value::String(text) => Ok(text),
                        other => self.text(&other),
                    });
                    Ok(items.collect::<Result<Vec<_>, String>>()?.join(separator).into())
                }
                _ => Err(format!("Fn::Join cannot take {argument}")),
            },
            ("Fn::If", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(condition), yes, no] => self.resolve(if self.condition(condition)? { yes } else { no }),
                _ => Err(format!("Fn::If cannot take {argument}")),
            },
            ("Fn::Equals", Value::Array(sides)) if sides.len() == 2 => {
                Ok((self.resolve(&sides[0])? == self.resolve(&sides[1])?).into())
            }
            ("Fn::Not", Value::Array(sides)) if sides.len() == 1 => Ok((!is_true(&sides[0])?).into()),
            ("Fn::And", Value::Array(sides)) => {
                sides.iter().try_fold(true, |all, side| Ok(all && is_true(side)?)).map(Value::Bool)
            }
            ("Fn::Or", Value::Array(sides)) => {
                sides.iter().try_fold(false, |any, side| Ok(any || is_true(side)?)).map(Value::Bool)
            }
            ("Condition", Value::String(condition)) => self.condition(condition).map(Value::Bool),
            _ => Err(format!("{name} is not known on one machine")),
        }
    }

    pub(super) fn condition(&self, name: &str) -> Result<bool, String> {
        let condition = self.conditions.get(name).ok_or_else(|| format!("there is no condition {name}"))?;
        self.resolve(condition).map(|value| value == true)
    }

    fn reference(&self, target: &str) -> Result<Value, String> {
        let text = match target {
            "AWS::Region" => REGION.to_owned(),
            "AWS::AccountId" => ACCOUNT.to_owned(),
            "AWS::Partition" => "aws".to_owned(),
            "AWS::URLSuffix" => "amazonaws.com".to_owned(),
            "AWS::StackName" => "local".to_owned(),
            "AWS::NoValue" => return Ok(no_value()),
            _ => {
                if let Some(value) = self.parameters.get(target) {
                    return match value {
                        Value::Null => Err(format!("the parameter {target} has no value and no default")),
                        value => Ok(value.clone()),
                    };
                }
                let name = self.name_of(target)?;
                match self.resources[target]["Type"].as_str() {
                    Some("AWS::SQS::Queue") => format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"),
                    Some("AWS::Serverless::StateMachine") => {
                        format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}")
                    }
                    Some(_) => name,
                    None => return Err(format!("!Ref {target} names neither a parameter nor a resource")),
                }
            }
        };
        Ok(text.into())
    }

    fn attribute(&self, resource: &str, attribute: &str) -> Result<Value, String> {
        let name = self.name_of(resource)?;
        let kind = self.resources[resource]["Type"].as_str();
        let text = match (kind, attribute) {
            (Some("AWS::Serverless::Function"), "Arn") => format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"),
            (Some("AWS::SQS::Queue"), "Arn") => format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"),
            (Some("AWS::Serverless::StateMachine"), "Arn") => {
                format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}")
            }
            (Some("AWS::Serverless::StateMachine"), "Name") | (Some("AWS::SQS::Queue"), "QueueName") => name,
            (Some(_), _) => return Err(format!("!GetAtt {resource}.{attribute} is not known on one machine")),
            (None, _) => return Err(format!("!GetAtt {resource}.{attribute} names no resource")),
        };
        Ok(text.into())
    }

    /// `${Name}` in `text`, from `names` first; `${!Name}` stays as `${Name}`.
    fn substitute(&self, text: &str, names: &Value) -> Result<Value, String> {
        let mut rest = text;
        let mut out = String::new();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) = after.split_once('}').ok_or_else(|| format!("{text} has a ${{ without its }}"))?;
            out.push_str(before);
            if let Some(literal) = name.strip_prefix('!') {
                out.extend(["${", literal, "}"]);
            } else {
                let value = match (names.get(name), name.split_once('.')) {
                    (Some(value), _) => value.clone(),
                    (None, Some((resource, attribute))) => self.attribute(resource, attribute)?,
                    (None, None) => self.reference(name)?,
                };
                out.push_str(&match value {
                    Value::String(text) => text,
                    other => self.text(&other)?,
                });
            }
            rest = tail;
        }
        Ok((out + rest).into())
    }
}

/// `text` with the dynamic references in it carried out
/// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html>).
fn dynamic(text: &str) -> Result<String, String> {
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once("{{resolve:") {
        let (reference, tail) = after.split_once("}}").ok_or_else(|| format!("{text} has a {{{{ without its }}}}"))?;
        if !reference.starts_with("secretsmanager:") {
            return Err(format!("{{{{resolve:{reference}}}}} is not known on one machine"));
        }
        out.push_str(before);
        out.push_str(SECRET);
        rest = tail;
    }
    Ok(out + rest)
}

fn single(entries: &Map<String, Value>) -> Option<(&String, &Value)> {
    if entries.len() == 1 { entries.iter().next() } else { None }
}

/// Stands for `AWS::NoValue` until its key is dropped. No template can write it.
fn no_value() -> Value {
    json!({ "\0": null })
}

fn is_no_value(value: &Value) -> bool {
    *value == no_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intrinsic_functions_are_carried_out() {
        let document = long_form(
            r"
Parameters: {Stage: {Default: dev}, Sink: {Default: ''}}
Conditions:
  IsDev: !Equals [!Ref Stage, dev]
  HasSink: !Not [!Equals [!Ref Sink, '']]
  Both: !And [!Condition IsDev, !Condition HasSink]
Resources:
  Q: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub 'q-${Stage}'}}
  F: {Type: AWS::Serverless::Function}
Values:
  - [!Sub 'x-${Stage}-${Q.Arn}-${!kept}', 'x-dev-arn:aws:sqs:us-east-1:123456789012:q-dev-${kept}']
  - [!Sub ['${A}/${AWS::Region}', {A: !Ref Q}], 'https://sqs.us-east-1.amazonaws.com/123456789012/q-dev/us-east-1']
  - [!Join ['-', [a, !Ref F]], a-F]
  - [!If [IsDev, 1, 2], 1]
  - [!If [Both, 1, 2], 2]
  - [{a: !If [HasSink, 1, !Ref AWS::NoValue], b: 2}, {b: 2}]
  - [!GetAtt F.Arn, arn:aws:lambda:us-east-1:123456789012:function:F]
",
        )
        .expect("YAML");
        let intrinsics = Intrinsics::new(&document, &BTreeMap::new()).expect("no parameters given");
        for pair in document["Values"].as_array().expect("pairs") {
            assert_eq!(intrinsics.resolve(&pair[0]).expect("resolved"), pair[1], "{pair}");
        }
    }

    #[test]
    fn every_secret_is_the_same() {
        let document = long_form(
            r"
Resources: {S: {Type: AWS::SecretsManager::Secret}}
Values:
  - !Sub 'whsec_{{resolve:secretsmanager:${S}:SecretString}}'
  - '{{resolve:ssm:p}}'
  - '{{resolve:'
  - !Join ['', ['{{resolve:', 'secretsmanager:', !Ref S, '}}']]
",
        );
        let document = document.expect("YAML");
        let intrinsics = Intrinsics::new(&document, &BTreeMap::new()).expect("no parameters given");
        let texts: Vec<_> = (0..4).map(|index| intrinsics.text(&document["Values"][index])).collect();
        assert_eq!(texts[0], Ok(format!("whsec_{SECRET}")));
        assert!(texts[1].as_ref().is_err_and(|error| error.contains("{{resolve:ssm:p}} is not known")), "{texts:?}");
        assert!(texts[2].is_err(), "{texts:?}");
        assert_eq!(texts[3], Ok(SECRET.to_owned()));
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let document =
            long_form("Resources: {}\nValues: [!Ref Gone, !GetAtt Gone.Arn, !ImportValue x, !Sub '${']").expect("YAML");
        let intrinsics = Intrinsics::new(&document, &BTreeMap::new()).expect("no parameters given");
        for (index, expected) in ["!Ref Gone", "!GetAtt Gone.Arn", "Fn::ImportValue", "${"].iter().enumerate() {
            let error = intrinsics.resolve(&document["Values"][index]).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
