//! Events that were given up, as the on-failure queue gives them back.

use crate::{Start, TriggerError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What an event source mapping of a queue hands over
/// (<https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>).
#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(rename = "Records", borrow)]
    messages: Vec<Message<'a>>,
}

/// One message of the queue.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message<'a> {
    message_id: String,
    #[serde(rename = "eventSourceARN", borrow)]
    event_source_arn: Cow<'a, str>,
    #[serde(borrow)]
    body: Cow<'a, str>,
}

/// The body of a message: the record of an event that a function failed on
/// (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html>).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(borrow)]
    request_context: RequestContext<'a>,
    #[serde(borrow)]
    request_payload: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    #[serde(borrow)]
    request_id: Cow<'a, str>,
}

/// The messages that are to stay on the queue: a partial batch response
/// (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>).
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    batch_item_failures: Vec<Failure>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

/// The messages in `event`, where it is a batch and all of it is from the queue with this ARN. Whatever else looks
/// like a batch is an event like any other: it may hold what a stranger wrote.
///
/// # Errors
/// It is from elsewhere and has records of failed events: each of them is somebody's request.
pub(crate) fn messages<'a>(event: &'a RawValue, queue: Option<&str>) -> Result<Option<Vec<Message<'a>>>, TriggerError> {
    let Ok(Batch { messages }) = serde_json::from_str(event.get()) else { return Ok(None) };
    let is_from_queue = |message: &Message| Some(&*message.event_source_arn) == queue;
    if !messages.is_empty() && messages.iter().all(is_from_queue) {
        Ok(Some(messages))
    } else if messages.iter().any(|message| message.start().is_ok()) {
        Err(TriggerError::UnknownQueue)
    } else {
        Ok(None)
    }
}

impl Message<'_> {
    /// What SQS calls the message.
    pub(crate) fn id(&self) -> &str {
        &self.message_id
    }

    /// The start that the event of this record asked for.
    pub(crate) fn start(&self) -> Result<Start<'_>, TriggerError> {
        let record: Record = serde_json::from_str(&self.body).map_err(|_| TriggerError::NotARecord)?;
        Ok(Start::of(record.request_payload, record.request_context.request_id))
    }
}

impl<'a> FromIterator<Message<'a>> for Failures {
    fn from_iter<M: IntoIterator<Item = Message<'a>>>(messages: M) -> Self {
        let failures = messages.into_iter().map(|message| Failure { item_identifier: message.message_id });
        Self { batch_item_failures: failures.collect() }
    }
}
