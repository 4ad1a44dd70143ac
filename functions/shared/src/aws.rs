//! The configuration of every AWS client in the suite.

use crate::{
    https::Connector,
    settings::{self, SettingError},
};
use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, region::EnvironmentVariableRegionProvider},
    identity::IdentityCache,
    meta::region::ProvideRegion,
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::{
    connection::{CaptureSmithyConnection, ConnectionMetadata},
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use hyper_util::client::legacy::{
    Client,
    connect::{CaptureConnection, capture_connection},
};
use std::time::Duration;

/// How long one AWS call may take, all its attempts included. Each function's `Timeout` in the template is longer,
/// so that a call that hangs ends as an error of ours and not as a killed process.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// How long one attempt waits for a connection to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Credentials and region as Lambda gives them: in variables
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>), as are endpoints where they are not
/// AWS's own. TLS by rustls and ring, three attempts with backoff, and no call that waits for ever (the SDK itself sets no
/// operation timeout).
///
/// The SDK's default chain would look at profiles, containers and STS too. None of them is there on Lambda, and the
/// code for them is a seventh of a function's size and of its start.
///
/// # Errors
/// There are no certificates to trust: [`Connector::new`] says when.
pub async fn config() -> Result<SdkConfig, SettingError> {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_millis(2_500))
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let http = http_client(&Connector::new(settings::from_process, CONNECT_TIMEOUT)?);
    Ok(SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .identity_cache(IdentityCache::lazy().build())
        .service_config(Endpoints)
        .use_fips(is_true("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_true("AWS_USE_DUALSTACK_ENDPOINT"))
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .build())
}

/// The suite's HTTP client, as the SDK takes it.
#[must_use]
pub fn http_client(connector: &Connector) -> SharedHttpClient {
    let http = SharedHttpConnector::new(Http(connector.client()));
    http_client_fn(move |_, _| http.clone())
}

#[derive(Debug)]
struct Http(Client<Connector, SdkBody>);

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.0.clone();
        HttpConnectorFuture::new(async move {
            let mut request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let connection = capture_connection(&mut request);
            if let Some(asked) = request.extensions().get::<CaptureSmithyConnection>() {
                asked.set_connection_retriever(move || told(&connection));
            }
            // The SDK tries again after what it knows as I/O, and each of the suite's calls may be made twice.
            let response = http.request(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// What the SDK wants to know of a request's connection: how to have it closed, so that the next attempt after an
/// answer that only one machine may give reaches another.
fn told(connection: &CaptureConnection) -> Option<ConnectionMetadata> {
    connection.connection_metadata().as_ref()?;
    let connection = connection.clone();
    let poison = move || {
        if let Some(connection) = connection.connection_metadata().as_ref() {
            connection.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(false).poison_fn(poison).build())
}

fn is_true(variable: &str) -> bool {
    settings::from_process(variable).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// `AWS_ENDPOINT_URL_<SERVICE>`, or else `AWS_ENDPOINT_URL`
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>).
#[derive(Debug)]
struct Endpoints;

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        settings::from_process(&format!("{}_{service}", key.env())).or_else(|| settings::from_process(key.env()))
    }
}
