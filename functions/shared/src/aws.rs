//! The configuration of every AWS client in the suite.

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::time::Duration;

/// How long one AWS call may take, all its attempts included. Each function's `Timeout` in the template is longer,
/// so that a call that hangs ends as an error of ours and not as a killed process.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// Credentials and region as Lambda gives them, endpoints from `AWS_ENDPOINT_URL*` where set, TLS by rustls and ring,
/// three attempts with backoff, and no call that waits for ever (the SDK itself sets no operation timeout).
pub async fn config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_millis(2_500))
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let http_client =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .load()
        .await
}
