//! What the functions call others with: HTTP/1.1, over TLS by rustls and ring.

use crate::settings::SettingError;
use futures_util::{FutureExt, future::BoxFuture};
use hyper::{Uri, body::Body};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_native_certs::load_certs_from_paths;
use std::{
    env,
    error::Error,
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{io::Interest, net::TcpStream, time::timeout};
use tower_service::Service;
use tracing::warn;

/// Whatever keeps a connection from being opened.
type BoxError = Box<dyn Error + Send + Sync>;

/// How long init waits for others. Those that are unwell for longer cost the first event what init would have saved it.
const DURING_INIT: Duration = Duration::from_secs(1);

/// How long a connection that was opened ahead is good for. Who has not sent anything by then is often given up.
const AHEAD_FOR: Duration = Duration::from_secs(30);

/// A connection, with TLS or without.
type Connection = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections.
#[derive(Clone, Debug)]
pub struct Connector {
    https: HttpsConnector<HttpConnector>,
    within: Duration,
    ahead: Arc<Mutex<Option<(Instant, Connection)>>>,
}

impl Connector {
    /// A connector that has `within` for a connection: the look-up of the name, TCP and TLS.
    ///
    /// Trusted are the certificates in `SSL_CERT_FILE` and `SSL_CERT_DIR`, read through `variable`, or else Mozilla's, as
    /// they were when the function was built: Lambda's system has the same, in a file that takes a cold start 0.9 ms.
    ///
    /// # Errors
    /// One of the two variables is set, and no certificate is where it leads.
    pub fn new(variable: impl Fn(&str) -> Option<String>, within: Duration) -> Result<Self, SettingError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the addresses of a name, so that there is time for another where one is silent.
        tcp.set_connect_timeout(Some(within));
        let https =
            HttpsConnectorBuilder::new().with_tls_config(trusting(roots(variable)?)).https_or_http().enable_http1();
        Ok(Self { https: https.wrap_connector(tcp), within, ahead: Arc::default() })
    }

    /// A client that keeps connections open from one request to the next.
    #[must_use]
    pub fn client<B: Body<Data: Send> + Send>(&self) -> Client<Self, B> {
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(self.clone())
    }

    /// Opens the connection that the next request will need. For a client of one host alone: who asks is not looked at.
    ///
    /// # Errors
    /// The connection cannot be opened. The next request tries again.
    pub async fn open_ahead(&self, host: Uri) -> Result<(), BoxError> {
        let connection = self.open(host).await?;
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), connection));
        Ok(())
    }

    async fn open(&self, host: Uri) -> Result<Connection, BoxError> {
        timeout(self.within, self.https.clone().call(host)).await?
    }
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Connection, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, host: Uri) -> Self::Future {
        let connector = self.clone();
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            match ahead {
                Some((since, connection)) if since.elapsed() < AHEAD_FOR && is_open(&connection) => Ok(connection),
                _ => connector.open(host).await,
            }
        })
    }
}

/// Whether the other side has not closed the connection, as far as is known here.
fn is_open(connection: &Connection) -> bool {
    let tcp = match connection {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    };
    !matches!(tcp.ready(Interest::READABLE).now_or_never(), Some(Ok(ready)) if ready.is_read_closed())
}

fn roots(variable: impl Fn(&str) -> Option<String>) -> Result<RootCertStore, SettingError> {
    let path = |name| variable(name).filter(|path| !path.is_empty());
    let in_file = |path: &str| load_certs_from_paths(Some(Path::new(path)), None).certs;
    let in_folder = |path: PathBuf| load_certs_from_paths(None, Some(&path)).certs;
    let file = path("SSL_CERT_FILE").map(|path| in_file(&path));
    let folders = path("SSL_CERT_DIR").map(|paths| env::split_paths(&paths).flat_map(in_folder).collect());
    let mut roots = RootCertStore::empty();
    for (name, rule, certificates) in [
        ("SSL_CERT_FILE", "a file of certificates in PEM, or not set", file),
        ("SSL_CERT_DIR", "a folder of files of certificates in PEM, or not set", folders),
    ] {
        if certificates.is_some_and(|certificates| roots.add_parsable_certificates(certificates).0 == 0) {
            return Err(SettingError::Malformed { name, rule });
        }
    }
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        // It fails on a provider that has no cipher suite for them. ring has some for each.
        .expect("cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Whether it was TLS that kept a connection from being opened: a certificate that is not trusted, above all.
#[must_use]
pub fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    // An io::Error has what it was made of not for its source.
    let inner =
        error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
    error.is::<rustls::Error>() || inner.or_else(|| error.source()).is_some_and(is_of_tls)
}

/// Waits a moment for `call`, made during init so that the first event finds a connection open, and what is set up at a
/// first call: init has a whole core, an event less than a tenth of one.
///
/// Whatever comes of it, the function starts: each event makes its calls itself. The log has the error, as it displays.
pub async fn during_init<T, E: Display>(call: impl Future<Output = Result<T, E>>) {
    // On the heap: the SDK nests futures deeper than the compiler lays out in one.
    let reason = match timeout(DURING_INIT, Box::pin(call)).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took longer than a second".to_owned(),
    };
    warn!(reason, "init did not get the answer or the connection that it asked for: the first event asks again");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_are_not_there_keep_a_function_from_starting() {
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
            let nowhere = |asked: &str| (asked == name).then(|| "/nowhere".to_owned());
            let error = Connector::new(nowhere, Duration::from_secs(1)).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
        for nothing in [None, Some(String::new())] {
            assert!(Connector::new(|_| nothing.clone(), Duration::from_secs(1)).is_ok());
        }
    }
}
