//! `cargo local redrive-failed`: what a mapping from the on-failure queue does when it is switched on for a while.

use crate::{Error, client, moto::queue_url};
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use aws_sdk_sqs::types::QueueAttributeName;
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How the requests in a queue fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redriven {
    /// The queue.
    pub queue: String,
    /// How many of its messages are gone: their workflows have started.
    pub started: u64,
    /// How many failed again, and wait in the queue.
    pub failed: u64,
    /// How many were not tried: they had failed a short while before, and cannot be seen yet.
    pub hidden: u64,
    /// Whether the mapping had been on before. It then stays on, and goes on trying.
    pub was_on: bool,
}

impl Redriven {
    /// Whether nothing is left in the queue.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.failed + self.hidden == 0
    }
}

/// Enables each event source mapping of the suite on this machine until every message of its queue that can be seen
/// has been tried, or until `stop`, and then disables it again. `lambda_url` and `sqs_url` are where the suite takes
/// AWS's calls; `seen` is told how many messages a queue had and how many of them are yet to be tried.
///
/// # Errors
/// The suite is not there.
pub async fn failed(
    lambda_url: &str,
    sqs_url: &str,
    seen: impl Fn(u64, u64),
    stop: impl Future,
) -> Result<Vec<Redriven>, Error> {
    let mut stop = pin!(stop);
    let lambda = aws_sdk_lambda::Client::new(&client::aws(lambda_url));
    let sqs = aws_sdk_sqs::Client::new(&client::aws(sqs_url));
    let unreachable = || Error::Unreachable(lambda_url.to_owned());
    let mappings = lambda.list_event_source_mappings().send().await.map_err(|_| unreachable())?;
    let mut outcomes = vec![];
    for mapping in mappings.event_source_mappings() {
        let (Some(uuid), Some(queue)) = (mapping.uuid(), queue(mapping)) else { continue };
        let was_on = mapping.state() != Some("Disabled");
        let switch = async |enabled| {
            let update = lambda.update_event_source_mapping().uuid(uuid).enabled(enabled || was_on);
            update.send().await.map(drop).map_err(|_| unreachable())
        };
        let before = Count::of(&sqs, queue).await?;
        switch(true).await?;
        let passed = tokio::select! {
            passed = pass(&sqs, queue, &before, &seen) => passed,
            _ = &mut stop => Ok(()),
        };
        // Whatever has happened: left on, it would go on unseen.
        switch(false).await?;
        passed?;
        // Its last batch may still be under way.
        while lambda.get_event_source_mapping().uuid(uuid).send().await.map_err(|_| unreachable())?.state()
            == Some("Disabling")
        {
            sleep(LOOK_INTERVAL).await;
        }
        let left = Count::of(&sqs, queue).await?.all();
        let hidden = if was_on { 0 } else { before.hidden.min(left) };
        let started = before.all().saturating_sub(left);
        outcomes.push(Redriven { queue: queue.to_owned(), started, failed: left - hidden, hidden, was_on });
    }
    Ok(outcomes)
}

/// Waits until no message can be seen. One that fails can be seen again after the queue's visibility timeout: when
/// that long none has gone, all have been tried.
async fn pass(sqs: &aws_sdk_sqs::Client, queue: &str, before: &Count, seen: impl Fn(u64, u64)) -> Result<(), Error> {
    let (mut fewest, mut since) = (before.all(), Instant::now());
    loop {
        let now = Count::of(sqs, queue).await?;
        seen(before.visible, now.visible);
        if now.all() < fewest {
            (fewest, since) = (now.all(), Instant::now());
        }
        if now.visible == 0 || since.elapsed() > before.visibility_timeout {
            return Ok(());
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn queue(mapping: &EventSourceMappingConfiguration) -> Option<&str> {
    mapping.event_source_arn()?.rsplit(':').next()
}

/// The messages of a queue.
struct Count {
    visible: u64,
    /// Received and not deleted: being tried, or waiting to be seen again.
    hidden: u64,
    visibility_timeout: Duration,
}

impl Count {
    async fn of(sqs: &aws_sdk_sqs::Client, queue: &str) -> Result<Self, Error> {
        let request = sqs.get_queue_attributes().queue_url(queue_url(queue));
        let answer = request.attribute_names(QueueAttributeName::All).send().await;
        let answer = answer.map_err(|error| Error::Moto(error.into_service_error().to_string()))?;
        let number = |name| answer.attributes()?.get(&name)?.parse().ok();
        let visible = number(QueueAttributeName::ApproximateNumberOfMessages);
        let hidden = number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
        let visibility_timeout = number(QueueAttributeName::VisibilityTimeout).map(Duration::from_secs);
        match (visible, hidden, visibility_timeout) {
            (Some(visible), Some(hidden), Some(visibility_timeout)) => Ok(Self { visible, hidden, visibility_timeout }),
            _ => Err(Error::Moto(format!("it does not tell how many messages {queue} has"))),
        }
    }

    fn all(&self) -> u64 {
        self.visible + self.hidden
    }
}
