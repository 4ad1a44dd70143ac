//! `cargo local redrive-failed`: what a mapping from the on-failure queue does when it is switched on for a while.

use crate::{Error, client, moto::queue_url};
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use aws_sdk_sqs::types::QueueAttributeName;
use std::time::Duration;
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
    pub left: u64,
}

/// Enables each event source mapping of the suite on this machine that is disabled until every message of its queue
/// has been tried once, and disables it again. `lambda_url` and `sqs_url` are where the suite takes AWS's calls;
/// `seen` is told how many messages a queue had and how many of them are yet to be tried.
///
/// # Errors
/// The suite is not there.
pub async fn failed(lambda_url: &str, sqs_url: &str, seen: impl Fn(u64, u64)) -> Result<Vec<Redriven>, Error> {
    let lambda = aws_sdk_lambda::Client::new(&client::aws(lambda_url));
    let sqs = aws_sdk_sqs::Client::new(&client::aws(sqs_url));
    let unreachable = |error: aws_sdk_lambda::Error| Error::Unreachable(lambda_url.to_owned(), error.to_string());
    let mappings = lambda.list_event_source_mappings().send().await.map_err(|error| unreachable(error.into()))?;
    let mut outcomes = vec![];
    for mapping in mappings.event_source_mappings() {
        let (Some(uuid), Some(queue), Some("Disabled")) = (mapping.uuid(), queue(mapping), mapping.state()) else {
            continue;
        };
        let before = count(&sqs, queue).await?.all();
        let switch = async |enabled| lambda.update_event_source_mapping().uuid(uuid).enabled(enabled).send().await;
        switch(true).await.map_err(|error| unreachable(error.into()))?;
        loop {
            let visible = count(&sqs, queue).await?.visible;
            seen(before, visible);
            if visible == 0 {
                break;
            }
            sleep(LOOK_INTERVAL).await;
        }
        switch(false).await.map_err(|error| unreachable(error.into()))?;
        // Its last batch may still be under way.
        while lambda
            .get_event_source_mapping()
            .uuid(uuid)
            .send()
            .await
            .map_err(|error| unreachable(error.into()))?
            .state()
            != Some("Disabled")
        {
            sleep(LOOK_INTERVAL).await;
        }
        let left = count(&sqs, queue).await?.all();
        outcomes.push(Redriven { queue: queue.to_owned(), started: before.saturating_sub(left), left });
    }
    Ok(outcomes)
}

fn queue(mapping: &EventSourceMappingConfiguration) -> Option<&str> {
    mapping.event_source_arn()?.rsplit(':').next()
}

/// The messages of a queue.
struct Count {
    visible: u64,
    /// Received and not deleted: being tried, or waiting to be seen again.
    hidden: u64,
}

impl Count {
    fn all(&self) -> u64 {
        self.visible + self.hidden
    }
}

async fn count(sqs: &aws_sdk_sqs::Client, queue: &str) -> Result<Count, Error> {
    let (visible, hidden) =
        (QueueAttributeName::ApproximateNumberOfMessages, QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
    let request = sqs.get_queue_attributes().queue_url(queue_url(queue));
    let answer = request.attribute_names(visible.clone()).attribute_names(hidden.clone()).send().await;
    let answer = answer.map_err(|error| Error::Moto(error.into_service_error().to_string()))?;
    let number = |name| answer.attributes()?.get(&name)?.parse().ok();
    match (number(visible), number(hidden)) {
        (Some(visible), Some(hidden)) => Ok(Count { visible, hidden }),
        _ => Err(Error::Moto(format!("it does not tell how many messages {queue} has"))),
    }
}
