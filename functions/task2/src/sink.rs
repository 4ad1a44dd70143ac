use crate::DeliveryError;
use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    header,
};
use hyper_util::client::legacy::{Client, Error};
use jiff::Timestamp;
use serde_json::value::RawValue;
use shared::{
    WorkflowId,
    https::{self, Connector},
    settings::{SINK_URL, SettingError, WEBHOOK_SECRET},
};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use std::{fmt, net::IpAddr, ops::RangeInclusive, time::Duration};
use tokio::time::timeout;

/// How long a connection may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the sink may take to answer, a connection included. The function's `Timeout` in the template is longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long its answer may take to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of an answer is read, so that its connection serves the next delivery. Nobody looks at it.
const MAX_ANSWER_BYTES: usize = 64 * 1_024;

/// The length of a secret in bytes
/// (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;

const USER_AGENT: &str = concat!("async-workflows/", env!("CARGO_PKG_VERSION"));

/// The operator's endpoint.
pub(crate) struct Sink {
    url: Uri,
    host: String,
    webhook: Webhook,
    connector: Connector,
    http: Client<Connector, Full<Bytes>>,
}

impl Sink {
    pub(crate) fn read(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let rule = "a URL with https, or with http and a loopback host: https://example.com/events";
        let malformed = SettingError::Malformed { name: SINK_URL, rule };
        let url = url.parse::<Uri>().ok().filter(|parsed| url.is_ascii() && is_allowed(parsed));
        let url = url.ok_or_else(|| malformed.clone())?;
        let host = url.host().ok_or(malformed)?.to_ascii_lowercase();
        let host = match (url.scheme_str(), url.port_u16()) {
            (_, None) | (Some("https"), Some(443)) | (Some("http"), Some(80)) => host,
            (_, Some(port)) => format!("{host}:{port}"),
        };
        let secret = variable(WEBHOOK_SECRET).filter(|secret| !secret.is_empty());
        let webhook = webhook(&secret.ok_or(SettingError::Missing(WEBHOOK_SECRET))?)?;
        let connector = Connector::new(variable, CONNECT_TIMEOUT)?;
        Ok(Self { url, host, webhook, http: connector.client(), connector })
    }

    /// Opens the connection that the first delivery needs. Not to this machine, where it takes no time.
    pub(crate) async fn connect(&self) {
        if self.url.scheme_str() == Some("https") {
            https::during_init(self.connector.open_ahead(self.url.clone())).await;
        }
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
        let request = Request::post(&self.url)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "*/*")
            .header(header::CONTENT_TYPE, "application/cloudevents+json")
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(Full::from(body));
        // It fails on a header that is none.
        let request = request.map_err(|error| unavailable(format!("was not asked: {error}")))?;
        let answer = match timeout(ANSWER_TIMEOUT, self.http.request(request)).await {
            Ok(answer) => answer.map_err(|error| unavailable(reason(&error).to_owned()))?,
            Err(_) => return Err(unavailable("did not answer in time".to_owned())),
        };
        let status = answer.status();
        // What it fails on changes nothing: the status has told all.
        let _ = timeout(DRAIN_TIMEOUT, drain(answer)).await;
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

fn is_allowed(url: &Uri) -> bool {
    let Some(authority) = url.authority() else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback = host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
    // Nothing but a host and a port: a user would be sent by nobody, and what is no port would be taken for none.
    let port = authority.port().map_or_else(String::new, |port| format!(":{port}"));
    let is_plain = !host.is_empty() && authority.as_str() == format!("{host}{port}");
    is_plain && (url.scheme_str() == Some("https") || url.scheme_str() == Some("http") && is_loopback)
}

fn webhook(secret: &str) -> Result<Webhook, SettingError> {
    let key = secret.strip_prefix("whsec_").and_then(|key| BASE64_STANDARD.decode(key).ok());
    let key = key.filter(|key| SECRET_BYTES.contains(&key.len()));
    let rule = "whsec_ and 24 to 64 bytes in base64";
    key.and_then(|key| Webhook::from_bytes(key).ok()).ok_or(SettingError::Malformed { name: WEBHOOK_SECRET, rule })
}

/// What kept an answer away. The error's own words can have the whole URL.
fn reason(error: &Error) -> &'static str {
    match (error.is_connect(), https::is_of_tls(error)) {
        (true, true) => "has no certificate that is trusted: SSL_CERT_FILE can name its authority",
        (true, false) => "cannot be reached",
        (false, _) => "broke the connection off",
    }
}

/// Reads the answer's body, up to a bound.
async fn drain(mut answer: Response<Incoming>) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = answer.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MAX_ANSWER_BYTES {
            return;
        }
    }
}
