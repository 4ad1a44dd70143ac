//! Asynchronous invocations: the queue in front of each function, its retries, and the on-failure destination
//! (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>).

use super::{Function, Invocation, Lambda, Outcome};
use crate::moto::queue_url;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use std::{sync::Arc, time::Instant};

/// What the on-failure destination gets
/// (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html>).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: Timestamp,
    request_context: RequestContext<'a>,
    request_payload: &'a RawValue,
    response_context: ResponseContext,
    response_payload: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: String,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext {
    status_code: u16,
    executed_version: &'static str,
    function_error: &'static str,
}

impl Lambda {
    /// Takes an event for the function of this name and returns at once; `false` when there is no such function.
    #[must_use]
    pub fn enqueue(&self, name: &str, invocation: Invocation) -> bool {
        let Some(function) = self.functions.get(name).map(Arc::clone) else { return false };
        let host = self.clone();
        self.pending.send_modify(|pending| *pending += 1);
        tokio::spawn(async move {
            host.deliver(&function, &invocation).await;
            host.pending.send_modify(|pending| *pending -= 1);
        });
        true
    }

    async fn deliver(&self, function: &Function, invocation: &Invocation) {
        let asynchronous = &function.template.asynchronous;
        let taken = Instant::now();
        let mut tries = 0;
        loop {
            let Outcome::Failure(error) = function.invoke(invocation).await else { return };
            tries += 1;
            if function.is_stopped() {
                return;
            }
            if tries > asynchronous.retries {
                return self.fail(function, invocation, "RetriesExhausted", tries, &error).await;
            }
            let delay = self.retry_delays.get(tries as usize - 1).or(self.retry_delays.last());
            tokio::time::sleep(delay.copied().unwrap_or_default()).await;
            if taken.elapsed() > asynchronous.max_age {
                return self.fail(function, invocation, "EventAgeExceeded", tries, &error).await;
            }
        }
    }

    async fn fail(
        &self,
        function: &Function,
        invocation: &Invocation,
        condition: &'static str,
        tries: u32,
        error: &[u8],
    ) {
        self.given_up.send_replace(Some((function.template.name.clone(), tries)));
        let log = |line: String| (function.log)(&function.template.name, &line);
        let Some(queue) = &function.template.asynchronous.on_failure else {
            return log(format!("an event was given up after {tries} tries: there is no on-failure destination"));
        };
        let record = record(function, invocation, condition, tries, error);
        let sent = match record.and_then(|record| serde_json::to_string(&record)) {
            Ok(record) => {
                let sent = self.sqs.send_message().queue_url(queue_url(queue)).message_body(record).send().await;
                sent.map(drop).map_err(|error| error.into_service_error().to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match sent {
            Ok(()) => log(format!("an event went to {queue} after {tries} tries")),
            Err(error) => log(format!("an event was lost: {queue} did not take it: {error}")),
        }
    }
}

fn record<'a>(
    function: &Function,
    invocation: &'a Invocation,
    condition: &'static str,
    tries: u32,
    error: &'a [u8],
) -> Result<Record<'a>, serde_json::Error> {
    Ok(Record {
        version: "1.0",
        timestamp: Timestamp::now(),
        request_context: RequestContext {
            request_id: &invocation.request_id,
            function_arn: format!("{}:$LATEST", function.template.arn()),
            condition,
            approximate_invoke_count: tries,
        },
        request_payload: serde_json::from_slice(&invocation.event)?,
        response_context: ResponseContext {
            status_code: 200,
            executed_version: "$LATEST",
            function_error: "Unhandled",
        },
        response_payload: serde_json::from_slice(error)?,
    })
}
