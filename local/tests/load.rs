//! `cargo local load`: what it counts is what has happened.

mod support;

use local::{Options, client::Client, load};
use serde_json::json;
use std::{collections::BTreeMap, future::pending, time::Duration};
use support::{executions, options, start};
use tokio::time::sleep;

fn load(payload: &str, patience: Duration) -> load::Load {
    load::Load { rate: 20, length: Duration::from_secs(2), payload: payload.to_owned(), patience }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_post_is_followed_to_the_end_of_its_workflow() {
    let suite = start(&options()).await;
    let client = Client::new(&suite.url).expect("a client");
    // Not of the load.
    client.trigger("0".to_owned()).await.expect("accepted");
    let report = load::run(&load("{}", Duration::from_mins(1)), &client, |_, _, _| {}, pending::<()>()).await;
    assert_eq!((report.posted, report.accepted, report.missing), (40, 40, 0), "{report:?}");
    assert_eq!(report.ended, BTreeMap::from([("SUCCEEDED".to_owned(), 40)]));
    assert!(report.is_perfect() && (18.0..22.0).contains(&report.rate), "{report:?}");
    assert!(report.answers.percentile(50.0) <= report.answers.max());
    assert!(report.workflows.max() >= report.answers.percentile(1.0));
    assert_eq!(executions(&suite).await.len(), 41);

    let report = load::run(&load("{", Duration::ZERO), &client, |_, _, _| {}, pending::<()>()).await;
    assert_eq!((report.accepted, report.refused.values().sum::<u64>()), (0, 40), "{report:?}");
    assert!(!report.is_perfect());
    let answer = serde_json::to_value(&report).expect("JSON");
    assert_eq!((&answer["posted"], &answer["answers"]["max"]), (&json!(40), &json!(report.answers.max())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_starts_is_missing() {
    let gone = "arn:aws:states:us-east-1:123456789012:stateMachine:gone".to_owned();
    let gone = BTreeMap::from([("STATE_MACHINE_ARN".to_owned(), gone)]);
    let variables = BTreeMap::from([("TriggerFunction".to_owned(), gone)]);
    let suite = start(&Options { variables, ..options() }).await;
    let client = Client::new(&suite.url).expect("a client");
    let report = load::run(&load("{}", Duration::from_secs(1)), &client, |_, _, _| {}, pending::<()>()).await;
    assert_eq!((report.accepted, report.missing, report.is_perfect()), (40, 40, false), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_it_learns_what_has_become_of_the_posts_so_far() {
    let suite = start(&options()).await;
    let client = Client::new(&suite.url).expect("a client");
    let day = load::Load { length: Duration::from_hours(24), ..load("{}", Duration::from_mins(1)) };
    let report = load::run(&day, &client, |_, _, _| {}, sleep(Duration::from_secs(1))).await;
    assert!((15..=25).contains(&report.posted), "{report:?}");
    assert_eq!(report.accepted, report.posted);
    assert_eq!(report.ended.values().sum::<u64>() + report.missing, report.posted);
}
