//! Whatever bytes come: no panic, and no client's mistake becomes a 5xx.

#[path = "support/any_event.rs"]
mod any_event;

use any_event::{event, status_of};
use proptest::prelude::*;
use std::{fs, path::Path};

/// Events that broke something once, and seeds of every kind. The fuzz target adds to them.
#[test]
fn the_corpus_has_answers() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/event");
    let mut answers = 0;
    for file in fs::read_dir(corpus).expect("the corpus") {
        let path = file.expect("a file").path();
        answers += usize::from(status_of(&fs::read(&path).expect("an event")).is_some());
    }
    assert!(answers >= 10, "{answers}");
}

#[test]
fn bytes_beyond_the_rules_are_refused_by_name() {
    let json = ("content-type".to_owned(), "application/json".to_owned());
    let header = |name: &str, value: &str| vec![json.clone(), (name.to_owned(), value.to_owned())];
    for (headers, expected) in [
        (header("x-name", "José \u{1}"), 200),
        (header("x name", "a"), 200),
        (header("host", "["), 200),
        (header("host", "a b"), 200),
        (header("x-forwarded-proto", "\u{1}:"), 200),
        (header("cookie", "é=\u{7f}"), 200),
        (header("idempotency-key", "clé"), 400),
        (header("content-type", "é"), 415),
    ] {
        let event = event("POST", "/trigger-workflow", "", &headers, "{}").to_string();
        assert_eq!(status_of(event.as_bytes()), Some(expected), "{headers:?}");
    }
    for path in [
        "",
        "x",
        "//",
        "/ ",
        "/\u{0}",
        "/é",
        "/%",
        "/?",
        "/#",
        "/\\",
        "/workflows/../trigger-workflow",
        "/./openapi.json",
    ] {
        assert_eq!(status_of(event("GET", path, "", &[], "").to_string().as_bytes()), Some(404), "{path}");
    }
    for query in [" ", "é", "%", "%ff", "#", "&&==", "\u{0}", "\"<>`{|}", "wait"] {
        let status = status_of(event("GET", "/openapi.json", query, &[], "").to_string().as_bytes());
        assert_eq!(status, Some(200), "{query}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_request_has_an_answer(
        method in "GET|POST|PUT|DELETE|HEAD|OPTIONS|[A-Z!#-]{1,9}",
        path in "(/(trigger-workflow|workflows|openapi.json|steps|redrive|[0-9a-f-]{36}|\\PC{0,9}|.{0,3}))*|.{0,20}",
        query in "((wait|limit|status|cursor)=.{0,5}&?)*|.{0,20}",
        headers in prop::collection::vec(("content-type|idempotency-key|host|x-forwarded-proto|.{1,5}", ".{0,20}"), 0..4),
        body in "[\\[\\]{}\",:0-9eE.+-]{0,20}|.{0,20}",
    ) {
        // The assertions are in `status_of`.
        let event = event(&method, &path, &query, &headers, &body);
        prop_assert!(status_of(event.to_string().as_bytes()).is_some());
    }
}
