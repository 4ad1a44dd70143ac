//! An endpoint of the operator's: takes deliveries, and answers as told.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use standardwebhooks::Webhook;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

/// What every secret of the template is on one machine, as Task2 gets it.
const SECRET: &str = "whsec_LocalSecretLocalSecretLocalSecretLocalSecret";

pub(crate) struct Receiver {
    pub(crate) url: String,
    deliveries: Deliveries,
}

/// By the id of each delivery: the bodies that came, and the statuses that were answered.
type Deliveries = Arc<Mutex<BTreeMap<String, Vec<(Bytes, u16)>>>>;

impl Receiver {
    /// A receiver that answers the delivery of this id, which has come so many times before, with a status.
    pub(crate) async fn start(answer: impl Fn(&str, usize) -> u16 + Send + Sync + 'static) -> Self {
        let deliveries = Deliveries::default();
        let (seen, answer) = (Arc::clone(&deliveries), Arc::new(answer));
        let take = async move |headers: HeaderMap, body: Bytes| {
            let webhook = Webhook::new(SECRET).expect("a secret");
            if webhook.verify(&body, &headers).is_err() || headers["content-type"] != "application/cloudevents+json" {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            let id = headers["webhook-id"].to_str().expect("text").to_owned();
            let mut seen = seen.lock().expect("not poisoned");
            let of_id = seen.entry(id.clone()).or_default();
            let status = answer(&id, of_id.len());
            of_id.push((body, status));
            StatusCode::from_u16(status).expect("a status").into_response()
        };
        let routes = Router::new().route("/events", post(take)).layer(axum::extract::DefaultBodyLimit::disable());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/events", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, deliveries }
    }

    pub(crate) fn deliveries(&self) -> BTreeMap<String, Vec<(Bytes, u16)>> {
        self.deliveries.lock().expect("not poisoned").clone()
    }
}
