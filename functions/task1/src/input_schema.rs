use crate::PrepareError;
use jsonschema::{ValidationError, Validator, draft202012};
use serde_json::{Value, value::RawValue};
use std::fmt;

/// The schema that lies beside this crate's `Cargo.toml`, if there is one: `build.rs` looks.
#[cfg(input_schema)]
const FILE: Option<&str> = Some(include_str!("../input.schema.json"));
#[cfg(not(input_schema))]
const FILE: Option<&str> = None;

/// How many faults of a payload are told, and in how many characters each: a payload may have long keys.
const MAX_FAULTS: usize = 10;
const MAX_FAULT_CHARACTERS: usize = 500;

/// Of a larger payload one fault is told: all that a payload can have do not fit the function's memory.
const MAX_BYTES_OF_MANY_FAULTS: usize = 16 * 1_024;

/// The meta-schema of JSON Schema 2020-12.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A JSON Schema (2020-12) that payloads have to fit, ready to check them.
pub struct InputSchema(Box<Check>);

/// A function behind a pointer, so that the compiler can leave the validator out where none is made.
type Check = dyn Fn(&RawValue) -> Result<(), PrepareError> + Send + Sync;

/// The text is no such schema.
#[derive(Debug, thiserror::Error)]
#[error("functions/task1/input.schema.json is no JSON Schema (2020-12): {0}")]
pub struct InvalidSchema(String);

impl InputSchema {
    /// The schema in `functions/task1/input.schema.json`, which is part of the binary; `None` where there is no such
    /// file.
    ///
    /// # Errors
    /// The file holds something else.
    pub fn packaged() -> Result<Option<Self>, InvalidSchema> {
        FILE.map(Self::compile).transpose()
    }

    /// Reads and compiles a schema.
    ///
    /// # Errors
    /// `text` is none, or one of another draft. A reference to a schema elsewhere is an error too: nothing is fetched.
    pub fn compile(text: &str) -> Result<Self, InvalidSchema> {
        let schema: Value = serde_json::from_str(text).map_err(|error| InvalidSchema(error.to_string()))?;
        if let Some(draft) = schema.get("$schema").filter(|draft| *draft != DRAFT) {
            return Err(InvalidSchema(format!("its $schema is {draft}")));
        }
        let validator = draft202012::new(&schema).map_err(|error| InvalidSchema(error.to_string()))?;
        Ok(Self(Box::new(move |payload| check(&validator, payload))))
    }

    /// Checks a payload.
    ///
    /// # Errors
    /// It does not fit: where and why, without the values.
    pub fn check(&self, payload: &RawValue) -> Result<(), PrepareError> {
        self.0(payload)
    }
}

impl fmt::Debug for InputSchema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InputSchema")
    }
}

fn check(validator: &Validator, text: &RawValue) -> Result<(), PrepareError> {
    let payload =
        serde_json::from_str(text.get()).map_err(|_| PrepareError::InvalidPayload("it cannot be read".to_owned()))?;
    let Err(first) = validator.validate(&payload) else { return Ok(()) };
    if text.get().len() > MAX_BYTES_OF_MANY_FAULTS {
        return Err(PrepareError::InvalidPayload(describe(&first)));
    }
    let mut faults = validator.iter_errors(&payload);
    let mut told: Vec<_> = faults.by_ref().take(MAX_FAULTS).map(|fault| describe(&fault)).collect();
    let untold = faults.count();
    if untold > 0 {
        told.push(format!("and {untold} more"));
    }
    Err(PrepareError::InvalidPayload(told.join("; ")))
}

fn describe(fault: &ValidationError<'_>) -> String {
    let path = match fault.instance_path().as_str() {
        "" => "the payload itself",
        path => path,
    };
    format!("{path}: {}", fault.masked()).chars().take(MAX_FAULT_CHARACTERS).collect()
}
