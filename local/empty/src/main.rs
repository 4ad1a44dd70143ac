//! The function that does nothing, on one thread as those of the suite, and logs as `lambda_runtime` does by itself: what
//! a function starts from.

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    run(service_fn(async |_: LambdaEvent<Value>| Ok::<(), Error>(()))).await
}
