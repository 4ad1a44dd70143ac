//! The wiring of the API function.

use api::Api;
use lambda_http::{lambda_runtime::run_concurrent, service_fn};
use shared::{
    aws,
    settings::{self, Environment},
    telemetry,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    telemetry::run(async {
        let environment = Environment::read(settings::from_process)?;
        let config = aws::config().await?;
        let lambda = aws_sdk_lambda::Client::new(&config);
        let step_functions = aws_sdk_sfn::Client::new(&config);
        let api = Api::new(lambda, step_functions, &environment);
        api.connect().await;
        let routes = api::router(api);
        run_concurrent(service_fn(move |event| api::handle(routes.clone(), event))).await
    })
}
