//! The configuration of every AWS client in the suite.

use crate::settings;
use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, region::EnvironmentVariableRegionProvider},
    identity::IdentityCache,
    meta::region::ProvideRegion,
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// How long one AWS call may take, all its attempts included. Each function's `Timeout` in the template is longer,
/// so that a call that hangs ends as an error of ours and not as a killed process.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// How long init waits for AWS. An AWS that is unwell for longer costs the first event what init would have saved it.
const CONNECT_DURING_INIT: Duration = Duration::from_secs(1);

/// Credentials and region as Lambda gives them: in variables
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>), as are endpoints where they are not
/// AWS's own. TLS by rustls and ring, three attempts with backoff, and no call that waits for ever (the SDK itself sets no
/// operation timeout).
///
/// The SDK's default chain would look at profiles, containers and STS too. None of them is there on Lambda, and the
/// code for them is a seventh of a function's size and of its start.
pub async fn config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_millis(2_500))
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let http_client =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .identity_cache(IdentityCache::lazy().build())
        .service_config(Endpoints)
        .use_fips(is_true("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_true("AWS_USE_DUALSTACK_ENDPOINT"))
        .http_client(http_client)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .build()
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

/// Waits a moment for `call`, made during init so that the first event finds a connection open and all that the SDK sets
/// up at its first call: init has a whole core, an event less than a tenth of one.
///
/// Whatever comes of it, the function starts: each event makes its calls itself.
pub async fn connect<T, E>(call: impl Future<Output = Result<T, E>>) {
    // On the heap: the SDK nests futures deeper than the compiler lays out in one.
    if !matches!(timeout(CONNECT_DURING_INIT, Box::pin(call)).await, Ok(Ok(_))) {
        warn!("init did not get what it asked AWS for: the first event asks again");
    }
}
