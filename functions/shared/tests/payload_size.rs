//! The limit on a payload's size, against a writer of the widest form: a blank after each comma and colon, `\uXXXX` for
//! what is not printable ASCII.

use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Serializer, Value, ser::Formatter};
use shared::payload::{MAX_BYTES, PayloadError, check};
use std::io::{self, Write};

struct Wide;

impl Formatter for Wide {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte @ b' '..=b'~') => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

fn wide(value: &Value) -> String {
    let mut bytes = vec![];
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Wide)).expect("JSON");
    String::from_utf8(bytes).expect("ASCII")
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 50, 9, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..9).prop_map(Value::from),
            prop::collection::btree_map(".{0,9}", inner, 0..9).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_fits_in_its_widest_form_is_accepted(value in json(), over in -3_isize..4, filler in "[a\u{e9}\u{1f600}]") {
        // Filled up to just below or above the limit.
        let room = MAX_BYTES - wide(&Value::from(vec![value.clone(), Value::from("")])).len();
        let fillers = room.checked_add_signed(over).expect("far from zero") / (wide(&filler.clone().into()).len() - 2);
        let value = Value::from(vec![value, Value::from(filler.repeat(fillers))]);
        let size = wide(&value).len();
        for text in [value.to_string(), wide(&value)] {
            match check(text.as_bytes()) {
                Ok(payload) => prop_assert!(size <= MAX_BYTES && payload.get() == text, "{}", size),
                Err(PayloadError::TooLarge(bytes) | PayloadError::TooWide(bytes)) => {
                    prop_assert!(size > MAX_BYTES && bytes > MAX_BYTES, "{}", size);
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }
}
