//! A proxy between functions and AWS: counts the calls, holds them up, and makes them go wrong.

use super::faults::{Fault, Faults, is_lambdas};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) url: String,
    inner: Arc<Inner>,
}

struct Inner {
    address: SocketAddr,
    /// Where the calls go on to; known once the suite runs.
    upstream: OnceLock<String>,
    delay: Duration,
    faults: Option<Arc<Faults>>,
    calls: Mutex<Vec<String>>,
    /// The subject of each execution's start, by its name, where no key determined that: later calls have it alone.
    subjects: Mutex<HashMap<String, String>>,
    under_way: watch::Sender<usize>,
    http: reqwest::Client,
}

impl Proxy {
    /// A proxy that holds each call for `delay`.
    pub(crate) async fn start(delay: Duration) -> Self {
        Self::listen(delay, None).await
    }

    /// A proxy that lets calls go wrong.
    pub(crate) async fn with(faults: &Arc<Faults>) -> Self {
        Self::listen(Duration::ZERO, Some(Arc::clone(faults))).await
    }

    async fn listen(delay: Duration, faults: Option<Arc<Faults>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            address,
            upstream: OnceLock::new(),
            delay,
            faults,
            calls: Mutex::default(),
            subjects: Mutex::default(),
            under_way: watch::Sender::new(0),
            http: super::http(),
        });
        let proxy = Self { url: format!("http://{address}"), inner: Arc::clone(&inner) };
        tokio::spawn(async move {
            while let Ok((stream, caller)) = listener.accept().await {
                let inner = Arc::clone(&inner);
                let service = service_fn(move |request| Arc::clone(&inner).answer(caller, request));
                // It ends with an error where the service does: that is how a connection is dropped.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        proxy
    }

    pub(crate) fn forward_to(&self, url: &str) {
        self.inner.upstream.set(url.to_owned()).expect("set once");
    }

    /// The operations that were called since the last look, in their order.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.calls.lock().expect("not poisoned"))
    }

    /// Waits until no call is under way, the late ones included.
    pub(crate) async fn settled(&self) {
        let mut under_way = self.inner.under_way.subscribe();
        under_way.wait_for(|calls| *calls == 0).await.expect("the sender is here");
    }
}

/// The connection ends without an answer.
fn dropped() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

impl Inner {
    async fn answer(self: Arc<Self>, caller: SocketAddr, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await.map_err(io::Error::other)?;
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let operation = match header("x-amz-invocation-type") {
            // It changes nothing, and a function that is killed in its init keeps a suite from starting.
            Some("DryRun") => "DryRun",
            _ => header("x-amz-target").unwrap_or(parts.uri.path()).rsplit(['.', '/']).next().unwrap_or_default(),
        };
        let operation = operation.to_owned();
        self.calls.lock().expect("not poisoned").push(operation.clone());
        let fault = self.faults.as_ref().and_then(|faults| faults.next(&operation, &self.subject(&operation, &body)));
        let request = Request::from_parts(parts, named(&operation, body));
        match fault {
            None => {
                tokio::time::sleep(self.delay).await;
                self.forward(&request, Duration::ZERO).await
            }
            Some(Fault::Throttled) if is_lambdas(&operation) => {
                Ok(refused(429, "TooManyRequestsException", "Rate exceeded"))
            }
            Some(Fault::Throttled) => Ok(refused(400, "ThrottlingException", "Rate exceeded")),
            Some(Fault::Broken) => Ok(refused(503, "ServiceException", "Out of order")),
            Some(Fault::DroppedBefore) => Err(dropped()),
            Some(Fault::DroppedAfter) => {
                self.forward(&request, Duration::ZERO).await?;
                Err(dropped())
            }
            Some(Fault::Delayed(delay)) => self.forward(&request, delay).await,
            Some(Fault::Duplicated) => {
                self.forward(&request, Duration::ZERO).await?;
                self.forward(&request, Duration::ZERO).await
            }
            Some(Fault::KilledBefore) => {
                self.kill(caller);
                Err(dropped())
            }
            Some(Fault::KilledAfter) => {
                self.forward(&request, Duration::ZERO).await?;
                self.kill(caller);
                Err(dropped())
            }
        }
    }

    /// Carries the call out after `delay`, on a task of its own: it takes effect without its caller, too.
    async fn forward(self: &Arc<Self>, request: &Request<Bytes>, delay: Duration) -> io::Result<Response<Body>> {
        let Some(upstream) = self.upstream.get() else { return Err(dropped()) };
        let mut headers = request.headers().clone();
        headers.remove("host");
        // Its body may have got a name (see `named`).
        headers.remove("content-length");
        let onward = self.http.request(request.method().clone(), format!("{upstream}{}", request.uri()));
        let onward = onward.headers(headers).body(request.body().clone());
        let inner = Arc::clone(self);
        inner.under_way.send_modify(|calls| *calls += 1);
        let carried_out = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let answer = async {
                let answer = onward.send().await?;
                let (status, headers) = (answer.status(), answer.headers().clone());
                Ok((status, headers, answer.bytes().await?))
            };
            let answer: Result<_, reqwest::Error> = answer.await;
            inner.under_way.send_modify(|calls| *calls -= 1);
            answer
        });
        let (status, headers, body) = carried_out.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let mut response = Response::new(Body::from(body));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }

    /// What a call is about: the number of the request that it is made for, where it tells.
    fn subject(&self, operation: &str, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let call: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut subjects = self.subjects.lock().expect("not poisoned");
        if operation == "DescribeExecution" {
            let arn = call["executionArn"].as_str().unwrap_or_default();
            let name = arn.rsplit(':').next().unwrap_or_default();
            // A name that a key determined is the same in every run; any other is known by its request.
            return subjects.get(name).cloned().unwrap_or_else(|| name.to_owned());
        }
        let Some((_, number)) = text.split_once("number") else { return String::new() };
        let digits = number.trim_start_matches(|character: char| !character.is_ascii_digit());
        let number = digits.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default();
        let name = call["name"].as_str().filter(|name| name.as_bytes().get(14) != Some(&b'8'));
        if let Some(name) = name {
            subjects.insert(name.to_owned(), number.to_owned());
        }
        number.to_owned()
    }

    /// Kills the process that this connection comes from.
    fn kill(&self, caller: SocketAddr) {
        let process = process_of(caller.port(), self.address.port());
        if process.is_none_or(|process| kill_process(process, Signal::KILL).is_err())
            && let Some(faults) = &self.faults
        {
            faults.missed();
        }
    }
}

/// Step Functions names an execution that is started without a name; moto does not.
fn named(operation: &str, body: Bytes) -> Bytes {
    match serde_json::from_slice::<Value>(&body) {
        Ok(mut call) if operation == "StartExecution" && call.get("name").is_none() => {
            call["name"] = uuid::Uuid::new_v4().to_string().into();
            call.to_string().into()
        }
        _ => body,
    }
}

/// An error as AWS answers it.
fn refused(status: u16, kind: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "__type": kind, "message": message });
    let response = Response::builder().status(status).header("x-amzn-errortype", kind);
    response.body(Body::from(body.to_string())).expect("constants")
}

/// The process with a TCP connection from one of this machine's ports to the other.
fn process_of(from: u16, to: u16) -> Option<Pid> {
    let connections = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = connections.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it =
            fields.get(1)?.ends_with(&format!(":{from:04X}")) && fields.get(2)?.ends_with(&format!(":{to:04X}"));
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes
        .filter(|process| {
            let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().filter_map(Result::ok);
            files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == &*socket))
        })
        .find_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
}
