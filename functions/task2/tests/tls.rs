//! Deliveries over TLS, to a receiver with a certificate that is made for the test and stands for its own authority.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::value::RawValue;
use shared::{
    settings::{SINK_URL, WEBHOOK_SECRET},
    step::StepEvent,
};
use std::{
    fs,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use task2::Delivery;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// What the receiver does with its first connection: `Closes` once it is open, `Hangs` before TLS is there.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Serves,
    Closes,
    Hangs,
}

/// A receiver for one test: its URL, a file with its certificate, and how many connections it has had.
struct Receiver {
    url: String,
    certificate: String,
    connections: Arc<AtomicUsize>,
    _folder: TempDir,
}

impl Receiver {
    /// Starts a receiver that accepts each event; `first` is what happens to the first connection.
    async fn start(first: First) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate");
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("certificate.pem");
        fs::write(&file, cert.pem()).expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://localhost:{}/events", listener.local_addr().expect("an address").port());
        let connections = Arc::new(AtomicUsize::new(0));
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&connections), first));
        Self { url, certificate: file.display().to_string(), connections, _folder: folder }
    }

    fn delivery(&self, trusted: Option<&str>) -> Delivery {
        let variable = |name: &str| match name {
            SINK_URL => Some(self.url.clone()),
            WEBHOOK_SECRET => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
            "SSL_CERT_FILE" => trusted.map(str::to_owned),
            _ => None,
        };
        Delivery::read(variable).expect("settings")
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, connections: Arc<AtomicUsize>, first: First) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, is_first) = (tls.clone(), connections.fetch_add(1, Ordering::Relaxed) == 0);
        tokio::spawn(async move {
            if is_first && first == First::Hangs {
                pending::<()>().await;
            }
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut connection) = tls.accept(tcp).await else { return };
            if is_first && first == First::Closes {
                connection.shutdown().await.expect("closed");
                return;
            }
            let mut request = vec![];
            while connection.read_buf(&mut request).await.is_ok_and(|bytes| bytes > 0) {
                if request.ends_with(b"{}") {
                    connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("an answer");
                    request.clear();
                }
            }
        });
    }
}

async fn deliver(delivery: &Delivery) -> Result<(), String> {
    let id = "019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d".parse().expect("an id");
    let event = StepEvent { workflow_id: id, attempt: 0, input: RawValue::from_string("{}".to_owned()).expect("JSON") };
    delivery.deliver(event).await.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_first_event_finds_the_connection_open() {
    let receiver = Receiver::start(First::Serves).await;
    let delivery = receiver.delivery(Some(&receiver.certificate));
    assert_eq!(receiver.connections(), 0);
    delivery.connect().await;
    assert_eq!(receiver.connections(), 1);
    for _ in 0..3 {
        assert_eq!(deliver(&delivery).await, Ok(()));
    }
    assert_eq!(receiver.connections(), 1, "each delivery over the connection that init opened");
}

#[tokio::test]
async fn a_connection_that_was_closed_since_init_is_not_used() {
    let receiver = Receiver::start(First::Closes).await;
    let delivery = receiver.delivery(Some(&receiver.certificate));
    delivery.connect().await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(deliver(&delivery).await, Ok(()));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn init_waits_no_longer_than_a_second_for_a_receiver_that_hangs() {
    let receiver = Receiver::start(First::Hangs).await;
    let delivery = receiver.delivery(Some(&receiver.certificate));
    let start = Instant::now();
    delivery.connect().await;
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(deliver(&delivery).await, Ok(()));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_receiver_that_nobody_vouches_for_gets_nothing() {
    let receiver = Receiver::start(First::Serves).await;
    let other = Receiver::start(First::Serves).await;
    for trusted in [None, Some(other.certificate.as_str())] {
        let delivery = receiver.delivery(trusted);
        delivery.connect().await;
        let error = deliver(&delivery).await.expect_err("not trusted");
        assert!(error.contains("no certificate that is trusted"), "{error}");
    }
}
