//! The rules for what a caller may post: JSON that every state of the workflow can hold.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The bytes that Step Functions allows for the input and the output of an execution and of each of its states
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
pub const STATE_LIMIT_BYTES: usize = 262_144;

/// What the states may add around the payload: the step event, the event that Task1 makes of it, and what
/// `lambda:invoke` reports beside a function's answer (about 1 KiB of metadata).
pub const STATE_OVERHEAD_BYTES: usize = 4_096;

/// The largest payload that is accepted: its bytes as they came, and its widest form (see [`PayloadError::TooWide`]).
pub const MAX_BYTES: usize = STATE_LIMIT_BYTES - STATE_OVERHEAD_BYTES;

/// How deep arrays and objects may nest. `serde_json` reads 128 levels, and so does whoever writes a step with it;
/// the states' own envelopes take a few of them.
pub const MAX_DEPTH: usize = 100;

/// Why a payload is refused. The messages are for the caller.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Larger than [`MAX_BYTES`].
    #[error("the body has {0} bytes and {MAX_BYTES} are allowed: store the data elsewhere and send a reference to it")]
    TooLarge(usize),
    /// The widest form that a JSON writer in common use gives it is larger than [`MAX_BYTES`].
    #[error(
        "a state may write the body in {0} bytes (a blank after each comma and colon, each character beyond ASCII as \\uXXXX) \
         and {MAX_BYTES} are allowed: store the data elsewhere and send a reference to it"
    )]
    TooWide(usize),
    /// No bytes, or white space alone.
    #[error("the body is empty: send a JSON value, {{}} if there is nothing to say")]
    Empty,
    /// Not a JSON text that every reader takes (RFC 8259, with the bounds of RFC 7493 section 2).
    #[error("the body is not JSON: {0}")]
    NotJson(serde_json::Error),
}

/// Checks that `body` is a payload, and gives it back with its bytes as they are, white space around it aside.
///
/// What passes here can be read by every JSON parser on the way. Numbers beyond a double's range, unpaired
/// surrogates and nesting beyond [`MAX_DEPTH`] are valid by RFC 8259's grammar, but Step Functions or a step would
/// fail on them after the caller was told that all is well.
///
/// # Errors
/// A [`PayloadError`] that says what to change.
pub fn check(body: &[u8]) -> Result<&RawValue, PayloadError> {
    if body.len() > MAX_BYTES {
        return Err(PayloadError::TooLarge(body.len()));
    }
    if body.trim_ascii().is_empty() {
        return Err(PayloadError::Empty);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    Readable { levels: MAX_DEPTH }.deserialize(&mut reader).map_err(PayloadError::NotJson)?;
    reader.end().map_err(PayloadError::NotJson)?;
    let payload: &RawValue = serde_json::from_slice(body).map_err(PayloadError::NotJson)?;
    match widest(payload.get()) {
        bytes if bytes > MAX_BYTES => Err(PayloadError::TooWide(bytes)),
        _ => Ok(payload),
    }
}

/// The bytes that `json`, which must be valid, takes in the widest form that a JSON writer in common use gives it.
///
/// Every state parses its input and writes it again. Step Functions does not say how, and other implementations of
/// the Amazon States Language write a blank after each comma and colon, `\uXXXX` for what is not printable ASCII, and
/// `1000000.0` for `1e6`: counted so, what is accepted passes each state wherever it runs.
fn widest(json: &str) -> usize {
    let mut bytes = 0;
    let mut rest = json;
    while let Some(character) = rest.chars().next() {
        let token = match character {
            '"' => string_of(rest),
            '-' | '0'..='9' => number_of(rest),
            _ => &rest[..character.len_utf8()],
        };
        bytes += match character {
            '"' => token.chars().map(|c| if (' '..='~').contains(&c) { 1 } else { 6 * c.len_utf16() }).sum(),
            '-' | '0'..='9' => token.len().max(rewritten(token)),
            ',' | ':' => 2,
            ' ' | '\t' | '\r' | '\n' => 0,
            _ => 1,
        };
        rest = &rest[token.len()..];
    }
    bytes
}

/// The string at the start of `json`, quotes included.
fn string_of(json: &str) -> &str {
    let mut is_escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(json, |end| &json[..end + 2])
}

/// The number at the start of `json`.
fn number_of(json: &str) -> &str {
    let end = json.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
    &json[..end.unwrap_or(json.len())]
}

/// The length of a number with a fraction or an exponent when it is written again from a double. Integers keep their
/// digits.
fn rewritten(number: &str) -> usize {
    match number.parse::<f64>() {
        Ok(double) if number.contains(['.', 'e', 'E']) => {
            let text = format!("{double:?}");
            // Where this says 1e-7, others say 1e-07 or 1.0E-7.
            if text.contains('e') { text.len() + 2 } else { text.len() }
        }
        _ => number.len(),
    }
}

/// Reads one JSON value to its end and keeps nothing of it.
#[derive(Clone, Copy)]
struct Readable {
    levels: usize,
}

impl Readable {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let levels = self
            .levels
            .checked_sub(1)
            .ok_or_else(|| E::custom(format_args!("arrays and objects nest deeper than {MAX_DEPTH} levels")))?;
        Ok(Self { levels })
    }
}

impl<'de> DeserializeSeed<'de> for Readable {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while sequence.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner().map_err(A::Error::custom::<A::Error>)?;
        while map.next_key_seed(inner)?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_valid_passes_with_its_bytes() {
        let nested = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        for text in [
            r#"{"n": 123456789012345678901234567890.10, "a": 1, "a": 2}"#,
            r#""\u00e9\ud83d\ude00\/""#,
            "null",
            "-0.0",
            "1E-400",
            "18446744073709551616",
            "[]",
            nested.as_str(),
        ] {
            assert_eq!(check(text.as_bytes()).expect(text).get(), text);
        }
        assert_eq!(check(b" \r\n{}\t\n").expect("white space is no part of it").get(), "{}");
    }

    #[test]
    fn what_some_reader_on_the_way_would_refuse_is_refused() {
        let deep = format!("{}1{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        let endless = "[".repeat(MAX_BYTES);
        for bytes in [
            b"{".as_slice(),
            b"{} {}",
            b"{'a':1}",
            b"[1,]",
            b"NaN",
            b"1e400",
            b"\"\\ud800\"",
            b"\"\x01\"",
            b"\"\xff\"",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xc3\"}",
            deep.as_bytes(),
            endless.as_bytes(),
        ] {
            let error = check(bytes).expect_err("must be refused");
            assert!(matches!(error, PayloadError::NotJson(_)), "{error}");
        }
        assert!(matches!(check(b""), Err(PayloadError::Empty)));
        assert!(matches!(check(b" \n"), Err(PayloadError::Empty)));
    }

    #[test]
    fn the_limit_counts_bytes() {
        let largest = format!("\"{}\"", "x".repeat(MAX_BYTES - 2));
        assert!(check(largest.as_bytes()).is_ok());
        assert!(matches!(check(format!("{largest} ").as_bytes()), Err(PayloadError::TooLarge(_))));
    }

    #[test]
    fn the_limit_counts_what_a_state_may_make_of_it() {
        for (json, bytes) in [
            ("{ }", 2),
            (r#"{"a":[1,-2.50],"b":null}"#, r#"{"a": [1, -2.50], "b": null}"#.len()),
            (r#""\"é\u00e9\\""#, r#""\"\u00e9\u00e9\\""#.len()),
            ("\"😀\u{7f}\"", r#""\ud83d\ude00\u007f""#.len()),
            ("1e15", "1000000000000000.0".len()),
            ("1e-7", "1.0E-7".len()),
            ("123456789012345678901234567890", 30),
            ("0.1000000000000000000000000000001", 33),
        ] {
            assert_eq!(widest(json), bytes, "{json}");
        }
        let wide = format!("\"{}\"", "é".repeat(MAX_BYTES / 4));
        assert!(matches!(check(wide.as_bytes()), Err(PayloadError::TooWide(_))));
    }
}
