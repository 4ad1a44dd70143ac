//! The event that is made of a payload, and the payloads that are refused.

use serde_json::{Value, json, value::RawValue};
use shared::{
    settings::{EVENT_SOURCE, EVENT_TYPE},
    step::StepEvent,
};
use task1::{InputSchema, Preparation, PrepareError};

const SCHEMA: &str = r#"{
    "type": "object",
    "required": ["customer", "items"],
    "properties": {
        "customer": { "type": "string", "pattern": "^c-[0-9]+$" },
        "items": { "type": "array", "items": { "properties": { "price": { "type": "number" } } } }
    }
}"#;

fn event(id: &str, payload: &str) -> StepEvent<Box<RawValue>> {
    let input = RawValue::from_string(payload.to_owned()).expect("JSON");
    StepEvent { workflow_id: id.parse().expect("an id"), attempt: 0, input }
}

const DRAFT_7: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","dependencies":{"a":["b"]}}"#;
const MINTED: &str = "019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d";

async fn prepared(preparation: &Preparation, id: &str, payload: &str) -> String {
    let event = preparation.prepare(event(id, payload)).await.expect("an event");
    serde_json::to_string(&event).expect("JSON")
}

#[tokio::test]
async fn an_event_is_a_cloudevent() {
    let schema: Value = serde_json::from_str(include_str!("cloudevents.schema.json")).expect("JSON");
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    let validator = options.build(&schema).expect("a schema");
    assert!(!validator.is_valid(&json!({ "id": "1", "source": "/a b", "specversion": "1.0", "type": "t" })));
    let settings = |name: &str| match name {
        EVENT_SOURCE => Some("https://example.com/orders#1".to_owned()),
        EVENT_TYPE => Some("com.example.order".to_owned()),
        _ => None,
    };
    for preparation in [Preparation::read(|_| None, None), Preparation::read(settings, None)] {
        let preparation = preparation.expect("settings");
        for payload in ["{}", "[1]", "null", "true", "1.10", r#""text""#, r#"{"key":"value"}"#] {
            let event: Value = serde_json::from_str(&prepared(&preparation, MINTED, payload).await).expect("JSON");
            let faults: Vec<_> = validator.iter_errors(&event).map(|fault| fault.to_string()).collect();
            assert_eq!(faults, [] as [&str; 0], "{event}");
        }
    }
    let preparation = Preparation::read(settings, None).expect("settings");
    let event: Value = serde_json::from_str(&prepared(&preparation, MINTED, "{}").await).expect("JSON");
    assert_eq!((&event["id"], &event["source"]), (&json!(MINTED), &json!("https://example.com/orders#1")));
    assert_eq!((&event["type"], &event["datacontenttype"]), (&json!("com.example.order"), &json!("application/json")));
}

#[tokio::test]
async fn the_payload_keeps_its_bytes_and_another_attempt_makes_the_same_event() {
    let preparation = Preparation::read(|_| None, None).expect("settings");
    let payload = r#"{"n": 123456789012345678901234567890.10, "a": 1, "a": 2, "é": "\u00e9"}"#;
    let first = prepared(&preparation, MINTED, payload).await;
    assert!(first.ends_with(&format!(r#""data":{payload}}}"#)), "{first}");
    assert!(first.contains(r#""time":"2025-11-23T12:47:32.976Z""#), "the time in the id: {first}");
    assert_eq!(first, prepared(&preparation, MINTED, payload).await);
    // An id that a key determined has no time in it.
    let keyed = prepared(&preparation, "ffffffff-ffff-8fff-bfff-ffffffffffff", payload).await;
    assert!(keyed.contains(r#""time":"20"#), "{keyed}");
}

#[tokio::test]
async fn a_payload_that_breaks_the_input_schema_is_told_where_and_why_and_not_quoted() {
    let schema = InputSchema::compile(SCHEMA).expect("a schema");
    let preparation = Preparation::read(|_| None, Some(schema)).expect("settings");
    prepared(&preparation, MINTED, r#"{"customer":"c-1","items":[{"price":1.5}]}"#).await;
    let payload = r#"{"customer":"hunter2","items":[{"price":1},{"price":"hunter3"}]}"#;
    let error = preparation.prepare(event(MINTED, payload)).await.expect_err("two faults");
    let told = error.to_string();
    assert_eq!(error.name(), "Prepare.InvalidPayload");
    for part in ["/customer: ", "^c-[0-9]+$", "/items/1/price: ", "number"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("hunter"), "{told}");

    let error = preparation.prepare(event(MINTED, "1")).await.expect_err("no object");
    assert!(error.to_string().contains("the payload itself: "), "{error}");
}

#[tokio::test]
async fn of_many_faults_some_are_told() {
    let schema = InputSchema::compile(r#"{"additionalProperties":{"type":"null"}}"#).expect("a schema");
    let faults = |number: usize, length: usize| {
        let payload: Value = (0..number).map(|n| (format!("{n}{}", "x".repeat(length)), json!(1))).collect();
        let payload = RawValue::from_string(payload.to_string()).expect("JSON");
        let PrepareError::InvalidPayload(told) = schema.check(&payload).expect_err("faults");
        told
    };
    let told = faults(25, 600);
    assert!(told.ends_with("; and 15 more"), "{told}");
    assert!(told.len() < 6_000, "{}", told.len());
    let told = faults(20_000, 0);
    assert!(told.len() < 100, "one of a large payload: {told}");
}

#[test]
fn what_is_no_schema_is_told() {
    for text in ["{", r#"{"type":"nothing"}"#, r#"{"$ref":"https://example.com/schema.json"}"#, "[]", DRAFT_7] {
        let error = InputSchema::compile(text).expect_err(text).to_string();
        assert!(error.contains("input.schema.json is no JSON Schema"), "{error}");
    }
}

#[test]
fn the_schema_that_is_packaged_compiles() {
    let packaged = InputSchema::packaged().expect("no schema, or one that compiles");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/input.schema.json");
    assert_eq!(packaged.is_some(), std::path::Path::new(file).exists());
}
