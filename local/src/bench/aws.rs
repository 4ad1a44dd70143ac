//! What stands in for AWS and for the endpoint that Task2 delivers to: one server, with TLS of an authority that is made
//! for the run, that answers every call at once and the same.

use crate::{ACCOUNT, Error, REGION, suite};
use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use axum_server::{
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::JoinHandle;

/// The server. It ends when dropped.
pub(super) struct Aws {
    pub(super) url: String,
    certificates: PathBuf,
    server: JoinHandle<std::io::Result<()>>,
}

impl Aws {
    /// Starts the server. The certificate that is to be trusted goes into `folder`.
    pub(super) async fn start(folder: &Path) -> Result<Self, Error> {
        let (authority, config) = certificates().map_err(|error| Error::Bench(error.to_string()))?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let url = format!("https://localhost:{port}");
        // A file of its own for each server: another run has another authority.
        let certificates = folder.join(format!("certificates-{port}.pem"));
        fs::create_dir_all(folder)?;
        fs::write(&certificates, authority).map_err(|error| Error::Unwritable(certificates.clone(), error))?;
        let routes = Router::new().fallback(answer).into_make_service();
        // Without a delay, as servers of AWS answer.
        let tls = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(config))).acceptor(NoDelayAcceptor::new());
        let server = axum_server::from_tcp(listener)?.acceptor(tls);
        Ok(Self { url, certificates, server: tokio::spawn(server.serve(routes)) })
    }

    /// The variables that lead a function here.
    pub(super) fn surroundings(&self) -> BTreeMap<String, String> {
        let mut variables = suite::surroundings(&self.url, &self.url);
        variables.insert("SSL_CERT_FILE".to_owned(), self.certificates.display().to_string());
        variables
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.server.abort();
        // Where it stays, nobody trusts it.
        let _ = fs::remove_file(&self.certificates);
    }
}

/// The certificate of a new authority in PEM, and a server's side of TLS with a certificate that it has issued.
fn certificates() -> Result<(String, ServerConfig), Box<dyn std::error::Error>> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok((authority.pem(), config))
}

/// Lambda's answer to `Invoke`, Step Functions' to what the suite asks it, or that of an endpoint.
async fn answer(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Read to its end, so that the connection serves the next call too.
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(operation) = header("x-amz-target").strip_prefix("AWSStepFunctions.") {
        return step_functions(operation, &serde_json::from_slice(&body).unwrap_or_default());
    }
    match header("x-amz-invocation-type") {
        "DryRun" => StatusCode::NO_CONTENT.into_response(),
        "Event" => StatusCode::ACCEPTED.into_response(),
        _ => StatusCode::OK.into_response(),
    }
}

fn step_functions(operation: &str, request: &Value) -> Response {
    let name = "orchestration-dev";
    let arn = format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}");
    let execution = format!("arn:aws:states:{REGION}:{ACCOUNT}:execution:{name}");
    let state_machine = json!({ "name": name, "stateMachineArn": arn, "type": "STANDARD", "creationDate": 1 });
    let answer = match operation {
        "ListStateMachines" => json!({ "stateMachines": [state_machine] }),
        "StartExecution" => json!({
            "executionArn": format!("{execution}:{}", request["name"].as_str().unwrap_or_default()),
            "startDate": 1
        }),
        "DescribeExecution" => json!({
            "executionArn": request["executionArn"], "stateMachineArn": arn, "status": "SUCCEEDED",
            "startDate": 1, "stopDate": 2, "input": "{}", "output": "{}"
        }),
        _ => {
            let error = json!({ "__type": "UnknownOperationException" });
            return (StatusCode::BAD_REQUEST, axum::Json(error)).into_response();
        }
    };
    axum::Json(answer).into_response()
}
