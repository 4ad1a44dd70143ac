//! The wiring of the trigger function.

use lambda_runtime::{LambdaEvent, run_concurrent, service_fn};
use serde_json::value::RawValue;
use shared::{aws, settings, telemetry};
use std::{process::ExitCode, sync::Arc};
use trigger::{StateMachine, Trigger};

fn main() -> ExitCode {
    telemetry::run(async {
        let state_machine = StateMachine::read(settings::from_process)?;
        let step_functions = aws_sdk_sfn::Client::new(&aws::config().await);
        let trigger = Arc::new(Trigger::new(step_functions, state_machine));
        run_concurrent(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
            let trigger = Arc::clone(&trigger);
            async move { trigger.handle(&event.payload, &event.context.request_id).await }
        }))
        .await
    })
}
