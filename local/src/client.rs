//! A client of the API: triggers workflows and follows them.

use crate::{Error, REGION};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode, Url, header};
use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use std::{collections::BTreeMap, time::Duration};

/// How long a suite that is up may take to answer that it has no such route.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What may not stand in a part of a URL as it is.
const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Talks to the API at one address.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    is_here: bool,
}

/// One state of a workflow, as the API tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The state's name.
    pub name: String,
    /// How it stands.
    pub status: String,
    /// How often its task was tried.
    pub attempts: u32,
    /// When it was entered.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// The error of its last failed attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What that error said of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// A page of the list of workflows.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// The workflows, the newest first.
    pub workflows: Vec<Listed>,
    /// The cursor of the next page.
    pub next: Option<String>,
    /// The whole answer.
    #[serde(skip)]
    pub answer: Box<RawValue>,
}

/// A workflow in the list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its id.
    pub workflow_id: String,
    /// How it stands.
    pub status: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub stopped_at: Option<Timestamp>,
}

/// A workflow, as the API tells it.
#[derive(Debug)]
pub struct Workflow {
    /// How it stands.
    pub status: String,
    /// The whole answer.
    pub answer: Box<RawValue>,
}

impl Workflow {
    /// Whether nothing more will happen to it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(self.status.as_str(), "PENDING" | "RUNNING" | "PENDING_REDRIVE")
    }

    /// The answer with the steps in it.
    ///
    /// # Errors
    /// The answer is no object.
    pub fn with(&self, steps: &[Step]) -> Result<Box<RawValue>, Error> {
        let mut fields: BTreeMap<String, Box<RawValue>> = parse(self.answer.get())?;
        let of_answer = |error| Error::NotJson("the API's answer".to_owned(), error);
        fields.insert("steps".to_owned(), to_raw_value(steps).map_err(of_answer)?);
        to_raw_value(&fields).map_err(of_answer)
    }
}

impl Client {
    /// A client of the API at `url`.
    ///
    /// # Errors
    /// `url` is none.
    pub fn new(url: &str) -> Result<Self, Error> {
        let parsed = Url::parse(url).map_err(|error| Error::Api(format!("{url} is no URL: {error}")))?;
        // A second call finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().timeout(Duration::from_secs(40));
        let is_here = parsed.host_str().is_some_and(|host| ["127.0.0.1", "localhost", "[::1]"].contains(&host));
        if is_here {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| Error::Api(error.to_string()))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), is_here })
    }

    /// Whether the address is one of this machine.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.is_here
    }

    /// Whether something answers at the address.
    ///
    /// # Errors
    /// Something takes connections there and does not answer.
    pub async fn is_there(&self) -> Result<bool, Error> {
        match self.http.get(&self.url).timeout(ANSWER_TIMEOUT).send().await {
            Err(error) if error.is_connect() => Ok(false),
            Err(error) if error.is_timeout() => Err(Error::Api(format!(
                "something listens at {} but does not answer yet: if it is `cargo local up`, wait until it says that the suite is up",
                self.url
            ))),
            _ => Ok(true),
        }
    }

    /// Posts `payload` and gives back the workflow's id.
    ///
    /// # Errors
    /// The API cannot be reached or refuses the payload.
    pub async fn trigger(&self, payload: String) -> Result<String, Error> {
        let answer = self.call(Method::POST, "/trigger-workflow", Some(payload)).await?;
        let answer: Value = parse(&answer)?;
        let id = answer["workflowId"].as_str().map(str::to_owned);
        id.ok_or_else(|| Error::Api(format!("{} answered without a workflowId", self.url)))
    }

    /// How the workflow stands.
    ///
    /// # Errors
    /// The API cannot be reached or does not know the workflow.
    pub async fn workflow(&self, id: &str) -> Result<Workflow, Error> {
        let answer = self.call(Method::GET, &path(id, ""), None).await?;
        let status: Value = parse(&answer)?;
        let status = status["status"].as_str().unwrap_or_default().to_owned();
        Ok(Workflow { status, answer: parse(&answer)? })
    }

    /// A page of workflows, the newest first.
    ///
    /// # Errors
    /// The API cannot be reached or refuses a parameter.
    pub async fn workflows(&self, status: Option<&str>, limit: u8, cursor: Option<&str>) -> Result<Page, Error> {
        let given = [("status", status), ("cursor", cursor)].into_iter();
        let given = given.filter_map(|(name, value)| Some(format!("&{name}={}", utf8_percent_encode(value?, IN_URL))));
        let path = format!("/workflows?limit={limit}{}", given.collect::<String>());
        let answer = self.call(Method::GET, &path, None).await?;
        Ok(Page { answer: parse(&answer)?, ..parse(&answer)? })
    }

    /// Stops a workflow.
    ///
    /// # Errors
    /// The API cannot be reached or refuses: the workflow is unknown or has finished.
    pub async fn stop(&self, id: &str) -> Result<Box<RawValue>, Error> {
        parse(&self.call(Method::DELETE, &path(id, ""), None).await?)
    }

    /// Lets a workflow that failed go on from the state that failed.
    ///
    /// # Errors
    /// The API cannot be reached or refuses: the workflow is unknown or did not fail.
    pub async fn redrive(&self, id: &str) -> Result<Box<RawValue>, Error> {
        parse(&self.call(Method::POST, &path(id, "/redrive"), None).await?)
    }

    /// The states that the workflow has been through.
    ///
    /// # Errors
    /// The API cannot be reached or does not know the workflow.
    pub async fn steps(&self, id: &str) -> Result<Vec<Step>, Error> {
        #[derive(Deserialize)]
        struct Steps {
            steps: Vec<Step>,
        }
        let answer = self.call(Method::GET, &path(id, "/steps"), None).await?;
        Ok(parse::<Steps>(&answer)?.steps)
    }

    /// Follows the workflow to its end; `seen` gets its steps at every look.
    ///
    /// # Errors
    /// The API cannot be reached or does not know the workflow.
    pub async fn follow(&self, id: &str, mut seen: impl FnMut(&[Step])) -> Result<Workflow, Error> {
        let mut wait = Duration::from_millis(50);
        loop {
            let workflow = self.workflow(id).await?;
            seen(&self.steps(id).await?);
            if workflow.is_finished() {
                return Ok(workflow);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }

    /// Sends a request, again while the API asks for patience, and gives back the answer's body.
    async fn call(&self, method: Method, path: &str, body: Option<String>) -> Result<String, Error> {
        for _ in 0..5 {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
            if let Some(body) = &body {
                request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
            }
            let failed = |error: reqwest::Error| Error::Api(format!("{} cannot be reached: {error}", self.url));
            let response = request.send().await.map_err(failed)?;
            let status = response.status();
            let text = response.text().await.map_err(failed)?;
            match status {
                status if status.is_success() => return Ok(text),
                // A POST may have taken effect all the same.
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE if method != Method::POST => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                status => {
                    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
                    let detail =
                        problem["detail"].as_str().or(problem["message"].as_str()).unwrap_or("no reason given");
                    return Err(Error::Api(format!("the API answered {status}: {detail}")));
                }
            }
        }
        Err(Error::Api(format!("{} is too busy: try again later", self.url)))
    }
}

/// The configuration of an AWS client that talks to the suite on this machine at `url`, without TLS and with
/// anyone's credentials.
#[must_use]
pub fn aws(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "local")))
        .endpoint_url(url)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::from_static(REGION))
        .build()
}

/// The path of a workflow's route, whatever is given for an id.
fn path(id: &str, route: &str) -> String {
    format!("/workflows/{}{route}", utf8_percent_encode(id, IN_URL))
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::NotJson("the API's answer".to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::any};
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_read_is_repeated_while_the_api_is_busy_and_a_post_is_not() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        // Busy twice, then broken.
        let answer = async move || match counted.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(answer))).await });
        let client = Client::new(&url).expect("a client");
        let error = client.trigger("{}".to_owned()).await.expect_err("429");
        assert!(error.to_string().contains("429"), "{error}");
        let error = client.workflow("x").await.expect_err("500");
        assert!(error.to_string().contains("500"), "{error}");
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn what_listens_and_does_not_answer_is_told_from_what_is_not_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = Client::new(&format!("http://{}", listener.local_addr().expect("an address"))).expect("a client");
        let error = client.is_there().await.expect_err("no answer");
        assert!(error.to_string().contains("does not answer yet"), "{error}");
        drop(listener);
        assert!(!client.is_there().await.expect("nothing listens"));
    }
}
