//! The event that the API function hands to the trigger function.

use crate::WorkflowId;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One accepted request on its way to the state machine.
///
/// The trigger tells it from every other event by its shape: exactly these two fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TriggerEvent<'a> {
    /// The id that the caller was given, and the name that the execution gets.
    pub workflow_id: WorkflowId,
    /// The posted JSON, byte for byte: a string, because what carries the event may write JSON again in its own way,
    /// as Lambda may in the record of an event that failed. Another number of digits would be another input.
    #[serde(borrow)]
    pub payload: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"workflowId":"019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d","payload":"{\"n\": 1.10, \"a\": 1, \"a\": \"\\u00e9\"}"}"#;

    #[test]
    fn the_payload_keeps_its_bytes() {
        let event: TriggerEvent = serde_json::from_str(EVENT).expect("a trigger event");
        assert_eq!(event.payload, r#"{"n": 1.10, "a": 1, "a": "\u00e9"}"#);
        assert_eq!(serde_json::to_string(&event).expect("JSON"), EVENT);
    }

    #[test]
    fn another_shape_is_another_event() {
        for event in [
            r#"{"payload":"1"}"#.to_owned(),
            r#"{"workflowId":"1","payload":"1"}"#.to_owned(),
            r#"{"workflowId":"019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d","payload":1}"#.to_owned(),
            EVENT.replacen('{', r#"{"detail-type":"x","#, 1),
        ] {
            assert!(serde_json::from_str::<TriggerEvent>(&event).is_err(), "{event}");
        }
    }
}
