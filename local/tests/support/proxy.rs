//! A proxy between a function and AWS that counts the calls and can hold them up.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Uri},
    response::{IntoResponse, Response},
};
use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::net::TcpListener;

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) url: String,
    /// Where the calls go on to; known once the suite runs.
    upstream: Arc<OnceLock<String>>,
    delay: Duration,
    calls: Arc<Mutex<Vec<String>>>,
    http: reqwest::Client,
}

impl Proxy {
    /// A proxy that holds each call for `delay`.
    pub(crate) async fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Self {
            url: format!("http://{}", listener.local_addr().expect("an address")),
            upstream: Arc::default(),
            delay,
            calls: Arc::default(),
            http: {
                local::client::Client::new("http://127.0.0.1").expect("a client");
                reqwest::Client::builder().no_proxy().build().expect("a client")
            },
        };
        let routes = Router::new().fallback(forward).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        proxy
    }

    pub(crate) fn forward_to(&self, url: &str) {
        self.upstream.set(url.to_owned()).expect("set once");
    }

    /// The operations that were called since the last look, in their order.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().expect("not poisoned"))
    }
}

async fn forward(
    State(proxy): State<Proxy>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or(uri.path());
    let operation = operation.rsplit('.').next().unwrap_or_default().to_owned();
    proxy.calls.lock().expect("not poisoned").push(operation);
    tokio::time::sleep(proxy.delay).await;
    headers.remove("host");
    let upstream = proxy.upstream.get().expect("the suite runs");
    let request = proxy.http.request(method, format!("{upstream}{uri}")).headers(headers).body(body);
    let answer = request.send().await.expect("an answer from upstream");
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, answer.bytes().await.expect("a body")).into_response()
}
