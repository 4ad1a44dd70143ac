//! Event source mappings: what leads the messages of a queue to a function
//! (<https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>), and the calls of Lambda that switch them.

use crate::{
    ACCOUNT, Error, REGION,
    lambda::{Invocation, Lambda, Outcome},
    moto::queue_url,
    template::Mapping,
};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// How long an empty queue, or one that cannot be read, is left alone.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The mappings of a running suite. They end when this is dropped.
#[derive(Debug)]
pub struct EventSources {
    mappings: Vec<Arc<Running>>,
    polls: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Running {
    uuid: String,
    mapping: Mapping,
    is_enabled: watch::Sender<bool>,
    /// Stays true after the mapping is disabled, until its last batch has been dealt with.
    is_polling: watch::Sender<bool>,
}

impl EventSources {
    /// Starts the mappings: those that are enabled hand the messages of their queue to their function, a batch at a
    /// time.
    #[must_use]
    pub fn start(mappings: Vec<Mapping>, lambda: &Lambda, sqs: &aws_sdk_sqs::Client) -> Self {
        let mappings = mappings.into_iter().map(|mapping| {
            let (is_enabled, is_polling) = (watch::Sender::new(mapping.enabled), watch::Sender::new(mapping.enabled));
            Arc::new(Running { uuid: uuid::Uuid::new_v4().to_string(), mapping, is_enabled, is_polling })
        });
        let mappings: Vec<_> = mappings.collect();
        let polls = mappings.iter().map(|mapping| {
            let (mapping, lambda, sqs) = (Arc::clone(mapping), lambda.clone(), sqs.clone());
            tokio::spawn(async move { mapping.poll(&lambda, &sqs).await })
        });
        Self { polls: polls.collect(), mappings }
    }

    /// The calls of Lambda about event source mappings: list, get, and update, of which `Enabled` counts.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/2015-03-31/event-source-mappings/", get(list))
            .route("/2015-03-31/event-source-mappings", get(list))
            .route("/2015-03-31/event-source-mappings/{uuid}", get(get_one).put(update))
            .with_state(self.mappings.clone())
    }
}

impl Drop for EventSources {
    fn drop(&mut self) {
        for poll in &self.polls {
            poll.abort();
        }
    }
}

impl Running {
    async fn poll(&self, lambda: &Lambda, sqs: &aws_sdk_sqs::Client) {
        let mut enabled = self.is_enabled.subscribe();
        // The sender is in `self`, so that there is always a next value.
        while enabled.wait_for(|is_enabled| *is_enabled).await.is_ok() {
            self.is_polling.send_replace(true);
            while *self.is_enabled.borrow() {
                match self.batch(lambda, sqs).await {
                    Ok(0) => sleep(POLL_INTERVAL).await,
                    Ok(_) => {}
                    Err(error) => {
                        lambda.log(&self.mapping.function, &format!("{} cannot be read: {error}", self.mapping.queue));
                        sleep(POLL_INTERVAL).await;
                    }
                }
            }
            self.is_polling.send_replace(false);
        }
    }

    /// Receives messages, invokes the function with them, deletes those that did not fail, and tells how many there
    /// were.
    async fn batch(&self, lambda: &Lambda, sqs: &aws_sdk_sqs::Client) -> Result<usize, Error> {
        let queue = queue_url(&self.mapping.queue);
        let failed = |error: aws_sdk_sqs::Error| Error::Moto(error.to_string());
        let received = sqs
            .receive_message()
            .queue_url(&queue)
            .max_number_of_messages(self.mapping.batch_size)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await;
        let messages = received.map_err(|error| failed(error.into()))?.messages.unwrap_or_default();
        if messages.is_empty() {
            return Ok(0);
        }
        let records: Vec<_> = messages.iter().map(|message| self.record(message)).collect();
        let event = Invocation::new(json!({ "Records": records }).to_string().into());
        let outcome = lambda.invoke(&self.mapping.function, &event).await;
        let done = self.done(&messages, outcome.as_ref()).map(|message| {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .set_id(message.message_id.clone())
                .set_receipt_handle(message.receipt_handle.clone());
            entry.build().map_err(|error| Error::Moto(error.to_string()))
        });
        let done = done.collect::<Result<Vec<_>, _>>()?;
        if !done.is_empty() {
            let deleted = sqs.delete_message_batch().queue_url(&queue).set_entries(Some(done)).send().await;
            deleted.map_err(|error| failed(error.into()))?;
        }
        Ok(messages.len())
    }

    /// The messages that the function is done with
    /// (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>).
    fn done<'a>(&self, messages: &'a [Message], outcome: Option<&Outcome>) -> impl Iterator<Item = &'a Message> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Failures {
            batch_item_failures: Option<Vec<Failure>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Failure {
            item_identifier: String,
        }
        let ids: HashSet<_> = messages.iter().filter_map(|message| message.message_id.clone()).collect();
        let failed = match outcome {
            Some(Outcome::Answer(_)) if !self.mapping.reports_failures => HashSet::new(),
            Some(Outcome::Answer(body)) => match serde_json::from_slice::<Option<Failures>>(body) {
                Ok(failures) => {
                    let failures = failures.and_then(|failures| failures.batch_item_failures).unwrap_or_default();
                    let failed: HashSet<_> = failures.into_iter().map(|failure| failure.item_identifier).collect();
                    // An id that was not in the batch spoils the answer.
                    if failed.is_subset(&ids) { failed } else { ids }
                }
                Err(_) => ids,
            },
            _ => ids,
        };
        let is_done = move |message: &&Message| message.message_id.as_ref().is_some_and(|id| !failed.contains(id));
        messages.iter().filter(is_done)
    }

    /// The message as the function gets it.
    fn record(&self, message: &Message) -> Value {
        let attributes = message.attributes.iter().flatten();
        let attributes: BTreeMap<_, _> = attributes.map(|(name, value)| (name.as_str(), value)).collect();
        json!({
            "messageId": message.message_id,
            "receiptHandle": message.receipt_handle,
            "body": message.body,
            "attributes": attributes,
            "messageAttributes": {},
            "md5OfBody": message.md5_of_body,
            "eventSource": "aws:sqs",
            "eventSourceARN": self.queue_arn(),
            "awsRegion": REGION,
        })
    }

    fn queue_arn(&self) -> String {
        format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}", self.mapping.queue)
    }

    fn function_arn(&self) -> String {
        format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", self.mapping.function)
    }

    /// What the calls of Lambda tell of a mapping.
    fn configuration(&self) -> Configuration {
        let state = match (*self.is_enabled.borrow(), *self.is_polling.borrow()) {
            (true, true) => "Enabled",
            (true, false) => "Enabling",
            (false, true) => "Disabling",
            (false, false) => "Disabled",
        };
        Configuration {
            uuid: self.uuid.clone(),
            batch_size: self.mapping.batch_size,
            event_source_arn: self.queue_arn(),
            function_arn: self.function_arn(),
            state,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    #[serde(rename = "UUID")]
    uuid: String,
    batch_size: i32,
    event_source_arn: String,
    function_arn: String,
    state: &'static str,
}

type Mappings = State<Vec<Arc<Running>>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    event_source_arn: Option<String>,
    function_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    enabled: Option<bool>,
}

async fn list(State(mappings): Mappings, Query(filter): Query<Filter>) -> Json<Value> {
    let is_asked_for = |running: &&Arc<Running>| {
        filter.event_source_arn.as_ref().is_none_or(|arn| *arn == running.queue_arn())
            && filter
                .function_name
                .as_ref()
                .is_none_or(|name| *name == running.mapping.function || *name == running.function_arn())
    };
    let found: Vec<_> = mappings.iter().filter(is_asked_for).map(|running| running.configuration()).collect();
    Json(json!({ "EventSourceMappings": found }))
}

async fn get_one(State(mappings): Mappings, Path(uuid): Path<String>) -> Response {
    match mappings.iter().find(|running| running.uuid == uuid) {
        Some(running) => Json(running.configuration()).into_response(),
        None => not_found(),
    }
}

async fn update(State(mappings): Mappings, Path(uuid): Path<String>, Json(update): Json<Update>) -> Response {
    let Some(running) = mappings.iter().find(|running| running.uuid == uuid) else { return not_found() };
    if let Some(enabled) = update.enabled {
        running.is_enabled.send_replace(enabled);
    }
    (StatusCode::ACCEPTED, Json(running.configuration())).into_response()
}

fn not_found() -> Response {
    let body = json!({ "Type": "User", "Message": "The resource you requested does not exist." });
    (StatusCode::NOT_FOUND, [("x-amzn-errortype", "ResourceNotFoundException")], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(reports_failures: bool, outcome: Option<&Outcome>) -> Vec<String> {
        let mapping = Mapping {
            queue: "q".to_owned(),
            function: "f".to_owned(),
            batch_size: 10,
            enabled: true,
            reports_failures,
        };
        let running = Running {
            uuid: String::new(),
            mapping,
            is_enabled: watch::Sender::new(true),
            is_polling: watch::Sender::new(true),
        };
        let messages = ["a", "b"].map(|id| Message::builder().message_id(id).build());
        running.done(&messages, outcome).filter_map(|message| message.message_id.clone()).collect()
    }

    #[test]
    fn what_failed_stays_on_the_queue() {
        let answer = |body: &'static str| Outcome::Answer(body.into());
        for (body, expected) in [
            (r#"{"batchItemFailures":[]}"#, vec!["a", "b"]),
            (r#"{"batchItemFailures":null}"#, vec!["a", "b"]),
            ("{}", vec!["a", "b"]),
            ("null", vec!["a", "b"]),
            (r#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#, vec!["b"]),
            (r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"c"}]}"#, vec![]),
            (r#"{"batchItemFailures":[{"item":"a"}]}"#, vec![]),
            (r#""text""#, vec![]),
        ] {
            assert_eq!(done(true, Some(&answer(body))), expected, "{body}");
        }
        assert_eq!(done(false, Some(&answer(r#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#))), ["a", "b"]);
        for failure in [None, Some(&Outcome::Failure("{}".into()))] {
            assert_eq!(done(false, failure), [] as [&str; 0]);
        }
    }
}
