//! `openapi.json` against the code and against `template.yaml`.

mod support;

use api::OPENAPI;
use serde_json::{Value, json};
use serde_yaml_ng::Value as Yaml;
use shared::payload::{MAX_BYTES, MAX_DEPTH};
use std::collections::BTreeSet;
use support::{call, mocked, request, send};

const TEMPLATE: &str = include_str!("../../../template.yaml");

fn contract() -> Value {
    serde_json::from_str(OPENAPI).expect("JSON")
}

/// Each route of the document, as in `GET /workflows`.
fn described_routes() -> BTreeSet<String> {
    let contract = contract();
    let paths = contract["paths"].as_object().expect("paths");
    let of = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("operations").keys().filter(|key| *key != "parameters");
        methods.map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn the_template_has_the_same_routes() {
    let template: Yaml = serde_yaml_ng::from_str(TEMPLATE).expect("YAML");
    let resources = template["Resources"].as_mapping().expect("resources");
    let routes = resources.values().filter(|resource| resource["Type"] == "AWS::ApiGatewayV2::Route");
    let keys: BTreeSet<_> =
        routes.map(|route| route["Properties"]["RouteKey"].as_str().expect("a key").to_owned()).collect();
    // All else comes to the function too, for its 404 and 405.
    assert_eq!(keys, described_routes().into_iter().chain(["$default".to_owned()]).collect());
}

#[tokio::test]
async fn the_code_has_the_same_routes() {
    let described = described_routes();
    let contract = contract();
    for path in contract["paths"].as_object().expect("paths").keys() {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"] {
            let mut event = request(method, &path.replace("{workflowId}", "x"));
            // Refused before anybody is asked.
            event["rawQueryString"] = "limit=0".into();
            let response = send(&mocked(&[], &[]), &event).await;
            let is_described = described.contains(&format!("{method} {path}"));
            assert_eq!(response.status != 405, is_described, "{method} {path}");
            if !is_described {
                let allowed: BTreeSet<_> = response.header("allow").expect("Allow").split(',').collect();
                let of_path = described.iter().filter_map(|route| route.strip_suffix(&format!(" {path}")));
                // A HEAD is a GET without the body.
                let expected =
                    of_path.flat_map(|method| if method == "GET" { vec!["GET", "HEAD"] } else { vec![method] });
                assert_eq!(allowed, expected.collect(), "{path}");
            }
        }
    }
    call(&[], &[], &request("GET", "/")).await.assert_problem(404, "no-such-route");
}

#[tokio::test]
async fn the_document_is_served() {
    let response = call(&[], &[], &request("GET", "/openapi.json")).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert_eq!(response.text, OPENAPI);
}

#[test]
fn the_document_states_the_limits_of_the_code() {
    let contract = contract();
    let post = contract["paths"]["/trigger-workflow"]["post"]["description"].as_str().expect("a description");
    let (thousands, rest) = (MAX_BYTES / 1_000, MAX_BYTES % 1_000);
    assert!(post.contains(&format!("{thousands},{rest:03} bytes")), "{post}");
    assert!(post.contains(&format!("{MAX_DEPTH} levels")), "{post}");
    // Every type of problem is one of the error type's, which the other tests hold against the responses.
    let source = include_str!("../src/error.rs");
    let types = OPENAPI.split('"').filter(|text| text.starts_with("/problems/"));
    let types: BTreeSet<_> = types.collect();
    let of_code: BTreeSet<_> = source.split('"').filter(|text| text.starts_with("/problems/")).collect();
    let for_no_route = BTreeSet::from(["/problems/no-such-route", "/problems/method-not-allowed"]);
    assert_eq!(types, &of_code - &for_no_route);
    assert_eq!(contract["openapi"], json!("3.1.0"));
}
