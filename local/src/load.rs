//! `cargo local load`: posts at a steady rate, and looks what became of each workflow.

use crate::{Error, client::Client};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

/// The longest time that is told apart, in milliseconds: an hour.
const MAX_MILLIS: u64 = 3_600_000;

/// How far this clock and that of Step Functions may differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// How many workflows a page of the list has at most.
const PAGE: u8 = 100;

/// What to post, and how often.
#[derive(Clone, Debug)]
pub struct Load {
    /// Posts a second.
    pub rate: u32,
    /// For so long.
    pub length: Duration,
    /// Each with this body.
    pub payload: String,
    /// How long no workflow may end before those that are left count as missing.
    pub patience: Duration,
}

/// Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

/// What became of a load.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many posts there were.
    pub posted: u64,
    /// How many a second that was.
    pub rate: f64,
    /// How many were answered with a workflow's id.
    pub accepted: u64,
    /// The other answers, and how often each came.
    pub refused: BTreeMap<String, u64>,
    /// From a POST to its answer, of those that were accepted.
    pub answers: Times,
    /// How many workflows have ended with each status.
    pub ended: BTreeMap<String, u64>,
    /// From a POST to the end of its workflow, by the clocks of both.
    pub workflows: Times,
    /// How many workflows have not ended, or are not to be found.
    pub missing: u64,
    /// Why the last look at the list of workflows failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_failed: Option<String>,
}

/// When a post was made, how long its answer took, and the workflow's id.
type Answer = (Timestamp, Duration, Result<String, Error>);

impl Report {
    fn new() -> Self {
        let (posted, rate, accepted, missing, refused, ended, list_failed) = Default::default();
        let (answers, workflows) = (Times::new(), Times::new());
        Self { posted, rate, accepted, refused, answers, ended, workflows, missing, list_failed }
    }

    /// Counts an answer, and gives back the workflow that is to be waited for.
    fn answered(&mut self, (posted, took, answer): Answer) -> Option<(String, Timestamp)> {
        match answer {
            Ok(id) => {
                self.accepted += 1;
                self.answers.record(took);
                Some((id, posted))
            }
            Err(error) => {
                *self.refused.entry(error.to_string()).or_default() += 1;
                None
            }
        }
    }

    fn answers(&self) -> u64 {
        self.accepted + self.refused.values().sum::<u64>()
    }

    /// Whether every post was accepted, and every workflow succeeded.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        self.posted == self.ended.get("SUCCEEDED").copied().unwrap_or_default()
    }
}

impl Times {
    fn new() -> Self {
        // It fails on bounds that make no sense, and these are constants that do.
        let histogram = Histogram::new_with_bounds(1, MAX_MILLIS, 3).unwrap_or_else(|_| unreachable!());
        Self(histogram)
    }

    fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_millis()).unwrap_or(MAX_MILLIS));
    }

    /// The time that so many percent did not take longer than, in milliseconds.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    /// The longest, in milliseconds.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.max()
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = |percent| self.percentile(percent);
        let fields = [("p50", of(50.0)), ("p90", of(90.0)), ("p99", of(99.0)), ("max", self.max())];
        serializer.collect_map(fields)
    }
}

/// Carries the load out against the API of `client`, then waits for the workflows. `seen` is told how many posts or
/// workflows, of how many, have come to be what. At `stop` it posts no more and waits no longer.
pub async fn run(load: &Load, client: &Client, seen: impl Fn(u64, u64, &'static str), stop: impl Future) -> Report {
    let posts = u64::from(load.rate) * load.length.as_secs();
    let mut ticks = interval(Duration::from_secs(1) / load.rate.max(1));
    // Late ones are made up for, so that the rate is that which was asked for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begin, mut is_stopped) = (Instant::now(), false);
    tokio::pin!(stop);
    let (mut waiting, mut under_way) = (HashMap::new(), JoinSet::new());
    let mut report = Report::new();
    while report.posted < posts && !is_stopped {
        tokio::select! {
            biased;
            _ = &mut stop => is_stopped = true,
            _ = ticks.tick() => {
                let (client, payload) = (client.clone(), load.payload.clone());
                under_way.spawn(async move {
                    let (posted, start) = (Timestamp::now(), Instant::now());
                    let answer = client.trigger(payload).await;
                    (posted, start.elapsed(), answer)
                });
                report.posted += 1;
            }
        }
        while let Some(Ok(answer)) = under_way.try_join_next() {
            waiting.extend(report.answered(answer));
        }
        seen(report.answers(), posts, "posts are answered");
    }
    if !is_stopped {
        // The last post has its time as well.
        ticks.tick().await;
    }
    report.rate = f64::from(u32::try_from(report.posted).unwrap_or(u32::MAX)) / begin.elapsed().as_secs_f64();
    while let Some(Ok(answer)) = under_way.join_next().await {
        waiting.extend(report.answered(answer));
        seen(report.answers(), posts, "posts are answered");
    }
    let mut last = Instant::now();
    while !waiting.is_empty() {
        let before = waiting.len();
        // What fails now may not at the next look.
        report.list_failed = look(client, &mut waiting, &mut report).await.err().map(|error| error.to_string());
        seen(report.accepted - waiting.len() as u64, report.accepted, "workflows have ended");
        if waiting.len() < before {
            last = Instant::now();
        }
        if is_stopped || last.elapsed() >= load.patience {
            break;
        }
        tokio::select! {
            _ = &mut stop => is_stopped = true,
            () = sleep(Duration::from_millis(500)) => {}
        }
    }
    report.missing = waiting.len() as u64;
    report
}

/// Takes those that have ended out of `waiting`, and into the report.
async fn look(client: &Client, waiting: &mut HashMap<String, Timestamp>, report: &mut Report) -> Result<(), Error> {
    let Some(first) = waiting.values().min().copied() else { return Ok(()) };
    let first = first - CLOCK_SKEW;
    let mut cursor = None;
    loop {
        let page = client.workflows(None, PAGE, cursor.as_deref()).await?;
        // The newest come first: what has started before the first POST is not of this load.
        let is_last = page.workflows.last().is_none_or(|workflow| workflow.started_at < first);
        for workflow in page.workflows {
            if let Some(stopped) = workflow.stopped_at
                && let Some(posted) = waiting.remove(&workflow.workflow_id)
            {
                report.workflows.record(Duration::try_from(stopped.duration_since(posted)).unwrap_or_default());
                *report.ended.entry(workflow.status).or_default() += 1;
            }
        }
        cursor = page.next;
        if is_last || cursor.is_none() || waiting.is_empty() {
            return Ok(());
        }
    }
}
