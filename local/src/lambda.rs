//! A Lambda host: runs each function's own process through the Runtime API, and takes invocations.

mod asynchronous;
mod environment;
mod invoke_api;

pub(crate) use environment::Environment;
pub use invoke_api::routes;

use crate::{Error, template};
use axum::{body::Bytes, http::HeaderMap};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Semaphore, watch};

/// The most environments of one function at a time; further invocations wait.
pub const MAX_ENVIRONMENTS: usize = 10;

/// The largest event of a synchronous invocation, and the largest answer, in bytes
/// (<https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>).
pub const MAX_SYNCHRONOUS_BYTES: usize = 6 * 1_024 * 1_024;

/// The largest event of an asynchronous invocation in bytes (same page).
pub const MAX_ASYNCHRONOUS_BYTES: usize = 1_024 * 1_024;

/// Takes the log lines of the functions: the function's name and the line.
pub type Log = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// The functions, ready to be invoked. Cheap to clone.
#[derive(Clone)]
pub struct Lambda {
    functions: Arc<BTreeMap<String, Arc<Function>>>,
    /// The waits before the second and the third try of an asynchronous event.
    retry_delays: [Duration; 2],
    sqs: aws_sdk_sqs::Client,
    /// The function whose event was given up last, and the tries that it had.
    given_up: watch::Sender<Option<(String, u32)>>,
    /// How many asynchronous events are not dealt with yet.
    pending: watch::Sender<usize>,
}

/// One function with the environments that it has at the moment.
struct Function {
    template: template::Function,
    binary: PathBuf,
    /// What every function's environment has: where AWS is, and with which credentials.
    surroundings: BTreeMap<String, String>,
    log: Log,
    slots: Semaphore,
    stopped: watch::Sender<bool>,
    idle: Mutex<Vec<Environment>>,
}

/// One event for one function.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Stays the same on every try of the event.
    pub request_id: String,
    /// The event, JSON.
    pub event: Bytes,
    /// The caller's client context, JSON, of a synchronous invocation.
    pub client_context: Option<String>,
    /// The X-Ray trace that it belongs to, as in the header `X-Amzn-Trace-Id`.
    pub trace: String,
}

impl Invocation {
    /// An invocation with a request id and a trace of its own.
    #[must_use]
    pub fn new(event: Bytes) -> Self {
        // The form of a trace id: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let trace = format!("Root=1-{seconds:08x}-{:.24}", uuid::Uuid::new_v4().simple().to_string());
        Self { request_id: uuid::Uuid::new_v4().to_string(), event, client_context: None, trace }
    }

    /// The invocation in the trace of its caller, if that has one.
    #[must_use]
    pub fn traced(self, caller: &HeaderMap) -> Self {
        let trace = caller.get("x-amzn-trace-id").and_then(|trace| trace.to_str().ok()).map(str::to_owned);
        Self { trace: trace.unwrap_or(self.trace), ..self }
    }
}

/// How an invocation ended. Either way there is a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The function answered.
    Answer(Bytes),
    /// The function failed: an object with `errorType` and `errorMessage`.
    Failure(Bytes),
}

impl Lambda {
    /// A host for `functions`, of which nothing runs yet.
    #[must_use]
    pub fn new(
        functions: Vec<(template::Function, PathBuf)>,
        surroundings: &BTreeMap<String, String>,
        retry_delays: [Duration; 2],
        sqs: aws_sdk_sqs::Client,
        log: &Log,
    ) -> Self {
        let functions = functions.into_iter().map(|(template, binary)| {
            let function = Function {
                binary,
                surroundings: surroundings.clone(),
                log: Arc::clone(log),
                slots: Semaphore::new(MAX_ENVIRONMENTS),
                stopped: watch::Sender::new(false),
                idle: Mutex::new(vec![]),
                template,
            };
            (function.template.name.clone(), Arc::new(function))
        });
        let (given_up, pending) = (watch::Sender::new(None), watch::Sender::new(0));
        Self { functions: Arc::new(functions.collect()), retry_delays, sqs, given_up, pending }
    }

    /// Starts one environment of every function, all at once.
    ///
    /// # Errors
    /// A function ends before it asks for its first event.
    pub async fn warm(&self) -> Result<(), Error> {
        let started: Vec<_> = self
            .functions
            .values()
            .cloned()
            .map(|function| {
                tokio::spawn(async move {
                    let mut environment = function.start().await?;
                    let reason = environment.ready().await.err();
                    if let Some(reason) = reason {
                        let last = environment.last_line().map(|line| format!(": {line}")).unwrap_or_default();
                        let reason = format!("{reason}{last}");
                        return Err(Error::Init { function: function.template.name.clone(), reason });
                    }
                    function.keep(environment);
                    Ok(())
                })
            })
            .collect();
        for start in started {
            start.await.map_err(|error| Error::Io(error.into()))??;
        }
        Ok(())
    }

    /// Invokes the function of this name and waits for its end; `None` when there is none.
    pub async fn invoke(&self, name: &str, invocation: &Invocation) -> Option<Outcome> {
        let function = self.functions.get(name).map(Arc::clone)?;
        let invocation = invocation.clone();
        // On a task of its own: the invocation runs to its end when its caller does not wait for that.
        let invoked = tokio::spawn(async move { function.invoke(&invocation).await });
        Some(invoked.await.unwrap_or_else(|error| Outcome::failure("Local.Stopped", &error.to_string())))
    }

    /// Waits until an asynchronous event was given up, and names its function.
    pub async fn gave_up(&self) -> Error {
        let mut given_up = self.given_up.subscribe();
        // The sender is here, so there will be one.
        let last = given_up.wait_for(Option::is_some).await.ok().and_then(|last| last.clone());
        let (function, tries) = last.unwrap_or_default();
        Error::GivenUp { function, tries }
    }

    /// Waits until every asynchronous event has been dealt with, or been given up.
    pub async fn settled(&self) {
        // The sender is here, so the wait ends with none left.
        let _ = self.pending.subscribe().wait_for(|pending| *pending == 0).await;
    }

    /// Adds a line to the log of the function of this name.
    pub(crate) fn log(&self, name: &str, line: &str) {
        if let Some(function) = self.functions.get(name) {
            (function.log)(name, line);
        }
    }

    /// Ends every process.
    pub fn stop(&self) {
        for function in self.functions.values() {
            function.stopped.send_replace(true);
            function.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

impl fmt::Debug for Lambda {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Lambda").field(&self.functions.keys()).finish()
    }
}

impl Function {
    async fn start(&self) -> Result<Environment, std::io::Error> {
        Environment::start(&self.template, &self.binary, &self.surroundings, &self.log).await
    }

    fn keep(&self, environment: Environment) {
        // Looked at under the lock, so that none is put back after `stop` has cleared them.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_stopped() {
            idle.push(environment);
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    fn idle(&self) -> Option<Environment> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // One that ended between two events is gone; Lambda would replace it as well.
        std::iter::from_fn(|| idle.pop()).find_map(|mut environment| environment.is_alive().then_some(environment))
    }

    async fn invoke(&self, invocation: &Invocation) -> Outcome {
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            outcome = self.carry_out(invocation) => outcome,
            // Its process ends with the future that is dropped here.
            _ = stopped.wait_for(|is_stopped| *is_stopped) => {
                Outcome::failure("Local.Stopped", "the suite is being stopped")
            }
        }
    }

    async fn carry_out(&self, invocation: &Invocation) -> Outcome {
        let Ok(_slot) = self.slots.acquire().await else {
            return Outcome::failure("Local.Stopped", "the suite is being stopped");
        };
        let environment = match self.idle() {
            Some(environment) => Ok(environment),
            None => self.start().await,
        };
        match environment {
            Ok(mut environment) => {
                let outcome = environment.invoke(invocation).await;
                if environment.is_alive() {
                    self.keep(environment);
                }
                outcome
            }
            Err(error) => Outcome::failure("Runtime.InvalidEntrypoint", &error.to_string()),
        }
    }
}

impl Outcome {
    /// A failure that the host, not the function, reports.
    fn failure(kind: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errorType": kind, "errorMessage": message });
        Self::Failure(body.to_string().into())
    }
}
