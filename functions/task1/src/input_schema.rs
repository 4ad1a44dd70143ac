use crate::PrepareError;
use jsonschema::{ValidationError, Validator, draft202012};
use serde_json::value::RawValue;

/// The schema that lies beside this crate's `Cargo.toml`, if there is one: `build.rs` looks.
#[cfg(input_schema)]
const FILE: Option<&str> = Some(include_str!("../input.schema.json"));
#[cfg(not(input_schema))]
const FILE: Option<&str> = None;

/// How many faults of a payload are told, and in how many characters each: a payload may have long keys.
const MAX_FAULTS: usize = 10;
const MAX_FAULT_CHARACTERS: usize = 500;

/// A JSON Schema (2020-12) that payloads have to fit, ready to check them.
#[derive(Debug)]
pub struct InputSchema(Validator);

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
        // Spelled out for the compiler, which leaves the validator out of the binary where there is no file.
        match FILE {
            Some(text) => Self::compile(text).map(Some),
            None => Ok(None),
        }
    }

    /// Reads and compiles a schema.
    ///
    /// # Errors
    /// `text` is none. A reference to a schema elsewhere is an error too: nothing is fetched.
    pub fn compile(text: &str) -> Result<Self, InvalidSchema> {
        let schema = serde_json::from_str(text).map_err(|error| InvalidSchema(error.to_string()))?;
        draft202012::new(&schema).map(Self).map_err(|error| InvalidSchema(error.to_string()))
    }

    /// Checks a payload.
    ///
    /// # Errors
    /// It does not fit: where and why, without the values.
    pub fn check(&self, payload: &RawValue) -> Result<(), PrepareError> {
        let payload = serde_json::from_str(payload.get())
            .map_err(|_| PrepareError::InvalidPayload("it cannot be read".to_owned()))?;
        let mut faults = self.0.iter_errors(&payload).map(|fault| describe(&fault)).peekable();
        if faults.peek().is_none() {
            return Ok(());
        }
        let mut told: Vec<_> = faults.by_ref().take(MAX_FAULTS).collect();
        let untold = faults.count();
        if untold > 0 {
            told.push(format!("and {untold} more"));
        }
        Err(PrepareError::InvalidPayload(told.join("; ")))
    }
}

fn describe(fault: &ValidationError<'_>) -> String {
    let path = match fault.instance_path().as_str() {
        "" => "the payload itself",
        path => path,
    };
    format!("{path}: {}", fault.masked()).chars().take(MAX_FAULT_CHARACTERS).collect()
}
