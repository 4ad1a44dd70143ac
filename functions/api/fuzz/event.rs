//! Whatever bytes come as an event: no panic, and no client's mistake becomes a 5xx.
#![no_main]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/support/any_event.rs"]
mod any_event;

libfuzzer_sys::fuzz_target!(|event: &[u8]| {
    any_event::status_of(event);
});
