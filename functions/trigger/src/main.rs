//! The wiring of the trigger function.

use lambda_runtime::{run_concurrent, service_fn};
use shared::{aws, settings, telemetry};
use std::{process::ExitCode, sync::Arc};
use trigger::{StateMachine, Trigger};

fn main() -> ExitCode {
    telemetry::run(async {
        let state_machine = StateMachine::read(settings::from_process)?;
        let on_failure_queue = settings::on_failure_queue_arn(settings::from_process)?;
        let step_functions = aws_sdk_sfn::Client::new(&aws::config().await?);
        let trigger = Arc::new(Trigger::new(step_functions, state_machine, on_failure_queue));
        trigger.connect().await;
        run_concurrent(service_fn(move |event| {
            let trigger = Arc::clone(&trigger);
            async move { trigger.handle(event).await }
        }))
        .await
    })
}
