use crate::TriggerError;
use aws_sdk_sfn::{Client, types::IncludedData};
use shared::settings::{self, Environment, SettingError};
use tokio::sync::Mutex;

/// The state machine that a trigger starts, as the settings name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateMachine {
    /// Known by its ARN: no search.
    Arn(String),
    /// To be found by its name.
    Named(String),
}

impl StateMachine {
    /// Reads `STATE_MACHINE_ARN`, or else `ENVIRONMENT`, through `variable`.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        match settings::state_machine_arn(&variable)? {
            Some(arn) => Ok(Self::Arn(arn)),
            None => Environment::read(&variable).map(|environment| Self::Named(environment.state_machine())),
        }
    }
}

/// The state machine's ARN, searched for once and then kept. A miss is not kept.
#[derive(Debug)]
pub(crate) struct Found {
    state_machine: StateMachine,
    arn: Mutex<Option<String>>,
}

impl Found {
    pub(crate) fn new(state_machine: StateMachine) -> Self {
        Self { state_machine, arn: Mutex::new(None) }
    }

    /// Finds the state machine that is named, or looks whether there is one with the ARN.
    pub(crate) async fn look(&self, step_functions: &Client) -> Result<(), TriggerError> {
        match &self.state_machine {
            StateMachine::Named(_) => self.arn(step_functions).await.map(drop),
            StateMachine::Arn(arn) => {
                let request = step_functions.describe_state_machine().state_machine_arn(arn);
                let described = request.included_data(IncludedData::MetadataOnly).send().await;
                described.map(drop).map_err(|error| TriggerError::search(&error))
            }
        }
    }

    /// The ARN. The lock is held during the search, so that events side by side share one.
    pub(crate) async fn arn(&self, step_functions: &Client) -> Result<String, TriggerError> {
        let name = match &self.state_machine {
            StateMachine::Arn(arn) => return Ok(arn.clone()),
            StateMachine::Named(name) => name,
        };
        let mut kept = self.arn.lock().await;
        if let Some(arn) = &*kept {
            return Ok(arn.clone());
        }
        let arn = search(step_functions, name).await?;
        Ok(kept.insert(arn).clone())
    }

    /// Drops `arn`, which led nowhere, unless another event has replaced it already.
    pub(crate) async fn forget(&self, arn: &str) {
        self.arn.lock().await.take_if(|kept| kept == arn);
    }
}

/// Pages through the account's state machines, 1,000 at a time, until one has the name.
async fn search(step_functions: &Client, name: &str) -> Result<String, TriggerError> {
    let mut pages = step_functions.list_state_machines().max_results(1_000).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| TriggerError::search(&error))?;
        if let Some(found) = page.state_machines.into_iter().find(|found| found.name == name) {
            return Ok(found.state_machine_arn);
        }
    }
    Err(TriggerError::StateMachineNotFound(name.to_owned()))
}
