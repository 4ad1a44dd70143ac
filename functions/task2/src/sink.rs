use crate::DeliveryError;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use serde_json::value::RawValue;
use shared::{
    WorkflowId,
    settings::{SINK_URL, SettingError, WEBHOOK_SECRET},
};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use std::{fmt, net::IpAddr, ops::RangeInclusive, time::Duration};

/// How long the sink may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a delivery may take in all. The function's `Timeout` in the template is longer.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of an answer is read, so that its connection serves the next delivery. Nobody looks at it.
const MAX_ANSWER_BYTES: usize = 64 * 1_024;

/// The length of a secret in bytes
/// (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;

/// The operator's endpoint.
pub(crate) struct Sink {
    url: Url,
    host: String,
    webhook: Webhook,
    http: Client,
}

impl Sink {
    pub(crate) fn read(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let rule = "a URL with https, or with http and a loopback host: https://example.com/events";
        let malformed = SettingError::Malformed { name: SINK_URL, rule };
        let url = Url::parse(url).ok().filter(is_allowed).ok_or_else(|| malformed.clone())?;
        let host = url.host_str().ok_or(malformed)?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let secret = variable(WEBHOOK_SECRET).filter(|secret| !secret.is_empty());
        let webhook = webhook(&secret.ok_or(SettingError::Missing(WEBHOOK_SECRET))?)?;
        // A second call finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("async-workflows/", env!("CARGO_PKG_VERSION")));
        // It fails where there are no root certificates that can be read.
        let rule = "a file of certificates, or not set where the system has its own";
        let http = http.build().map_err(|_| SettingError::Malformed { name: "SSL_CERT_FILE", rule })?;
        Ok(Self { url, host, webhook, http })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Posts the event once, signed, and gives back the status that accepts it.
    pub(crate) async fn post(&self, id: WorkflowId, event: Box<RawValue>) -> Result<u16, DeliveryError> {
        let unavailable = |reason| DeliveryError::Unavailable { sink: self.host.clone(), reason };
        let (id, timestamp) = (id.to_string(), Timestamp::now().as_second());
        let body = String::from(Box::<str>::from(event));
        let signature = self.webhook.sign(&id, timestamp, body.as_bytes());
        // It fails on what is not UTF-8 alone.
        let signature = signature.map_err(|error| unavailable(format!("was not asked: {error}")))?;
        let request = self
            .http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/cloudevents+json")
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(body);
        let answer = request.send().await.map_err(|error| unavailable(reason(&error).to_owned()))?;
        let status = answer.status();
        drain(answer).await;
        match status {
            _ if status.is_success() => Ok(status.as_u16()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Err(unavailable(format!("answered {}", status.as_u16())))
            }
            _ if status.is_server_error() => Err(unavailable(format!("answered {}", status.as_u16()))),
            _ => Err(DeliveryError::Refused { sink: self.host.clone(), status: status.as_u16() }),
        }
    }
}

/// Without the key, and without the URL, which can hold a secret of its own.
impl fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Sink").field(&self.host).finish()
    }
}

fn is_allowed(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => url.host_str().is_some_and(|host| {
            let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }),
        _ => false,
    }
}

fn webhook(secret: &str) -> Result<Webhook, SettingError> {
    let key = secret.strip_prefix("whsec_").and_then(|key| BASE64_STANDARD.decode(key).ok());
    let key = key.filter(|key| SECRET_BYTES.contains(&key.len()));
    let rule = "whsec_ and 24 to 64 bytes in base64";
    key.and_then(|key| Webhook::from_bytes(key).ok()).ok_or(SettingError::Malformed { name: WEBHOOK_SECRET, rule })
}

/// What kept an answer away. The error's own words have the whole URL.
fn reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke the connection off"
    }
}

/// Reads the answer's body, up to a bound. What fails here changes nothing: the status has told all.
async fn drain(mut answer: Response) {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes += chunk.len();
        if bytes > MAX_ANSWER_BYTES {
            return;
        }
    }
}
