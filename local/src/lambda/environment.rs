//! One execution environment: a function's process, and the Runtime API that it is served by
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>).

use super::{Invocation, Log, MAX_SYNCHRONOUS_BYTES, Outcome};
use crate::{REGION, template::Function};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, State},
    http::{Response, StatusCode},
    response::IntoResponse,
    routing::{get, post},
};
use std::{
    collections::BTreeMap,
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

/// How long a function may take from its start to its first request for an event
/// (<https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html>).
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends its process and its Runtime API when dropped.
pub(crate) struct Environment {
    arn: String,
    timeout: Duration,
    child: Child,
    server: JoinHandle<()>,
    /// To the function: answers to its requests for the next event.
    events: mpsc::Sender<Response<Body>>,
    /// From the function.
    calls: mpsc::Receiver<Call>,
    is_ready: bool,
    is_given_up: bool,
    last_line: Arc<SyncMutex<Option<String>>>,
}

/// What a function told the Runtime API.
enum Call {
    /// It asked for the next event.
    Next,
    /// Its init failed.
    InitError(Bytes),
    /// It is done with the invocation of this request id.
    Done(String, Outcome),
}

impl Environment {
    pub(crate) async fn start(
        function: &Function,
        binary: &std::path::Path,
        surroundings: &BTreeMap<String, String>,
        log: &Log,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let runtime_api = listener.local_addr()?.to_string();
        let (events, next) = mpsc::channel(1);
        let (call, calls) = mpsc::channel(16);
        let routes = RuntimeApi { events: Arc::new(Mutex::new(next)), calls: call }.routes();
        let server = tokio::spawn(async move {
            // It ends with the listener, and that with this task.
            let _ = axum::serve(listener, routes).await;
        });
        let mut command = Command::new(binary);
        command
            .env_clear()
            .envs(surroundings)
            .envs(lambda_variables(function, &runtime_api))
            .envs(&function.variables)
            .current_dir(&function.code)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the suite, which then ends its functions itself.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().inspect_err(|_| server.abort())?;
        let last_line = Arc::new(SyncMutex::new(None));
        if let Some(stdout) = child.stdout.take() {
            forward(stdout, &function.name, log, &last_line);
        }
        if let Some(stderr) = child.stderr.take() {
            forward(stderr, &function.name, log, &last_line);
        }
        let (arn, timeout) = (function.arn(), function.timeout);
        Ok(Self { arn, timeout, child, server, events, calls, is_ready: false, is_given_up: false, last_line })
    }

    /// The process's id, as long as it runs.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the process can take another event.
    pub(crate) fn is_alive(&mut self) -> bool {
        !self.is_given_up && matches!(self.child.try_wait(), Ok(None))
    }

    /// The last line that the process wrote.
    pub(crate) fn last_line(&self) -> Option<String> {
        self.last_line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the function has asked for an event.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        if self.is_ready {
            return Ok(());
        }
        let waited = timeout(INIT_TIMEOUT, async {
            loop {
                tokio::select! {
                    call = self.calls.recv() => match call {
                        Some(Call::Next) => return Ok(()),
                        Some(Call::InitError(body)) => return Err(String::from_utf8_lossy(&body).into_owned()),
                        Some(Call::Done(..)) => {}
                        None => return Err("its Runtime API is gone".to_owned()),
                    },
                    exit = self.child.wait() => {
                        // Its last words are still in the pipe.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        return Err(exited(exit));
                    }
                }
            }
        });
        let outcome = waited.await.unwrap_or_else(|_| Err(format!("no request for an event within {INIT_TIMEOUT:?}")));
        match &outcome {
            Ok(()) => self.is_ready = true,
            Err(_) => self.kill(),
        }
        outcome
    }

    /// Hands one event to the function and waits for its end, at most for the function's timeout.
    pub(crate) async fn invoke(&mut self, invocation: &Invocation) -> Outcome {
        let request_id = &invocation.request_id;
        if let Err(reason) = self.ready().await {
            return Outcome::failure("Runtime.ExitError", &format!("RequestId: {request_id} Error: {reason}"));
        }
        self.is_ready = false;
        let deadline = Instant::now() + self.timeout;
        if self.events.send(self.event(invocation)).await.is_err() {
            self.kill();
            return Outcome::failure(
                "Runtime.ExitError",
                &format!("RequestId: {request_id} Error: its Runtime API is gone"),
            );
        }
        loop {
            tokio::select! {
                // A function that answers and then exits has answered.
                biased;
                call = self.calls.recv() => match call {
                    Some(Call::Done(id, outcome)) if id == *request_id => return bounded(outcome),
                    Some(Call::Next) => self.is_ready = true,
                    Some(_) => {}
                    None => self.kill(),
                },
                exit = self.child.wait() => {
                    self.kill();
                    return self.answered(request_id).unwrap_or_else(|| {
                        let reason = exited(exit);
                        Outcome::failure("Runtime.ExitError", &format!("RequestId: {request_id} Error: {reason}"))
                    });
                }
                () = sleep_until(deadline) => {
                    self.kill();
                    let seconds = self.timeout.as_secs_f64();
                    let message = format!("RequestId: {request_id} Error: Task timed out after {seconds:.2} seconds");
                    return Outcome::failure("Sandbox.Timedout", &message);
                }
            }
        }
    }

    /// The outcome that was taken from the function and is not yet read.
    fn answered(&mut self, request_id: &str) -> Option<Outcome> {
        std::iter::from_fn(|| self.calls.try_recv().ok()).find_map(|call| match call {
            Call::Done(id, outcome) if id == request_id => Some(bounded(outcome)),
            _ => None,
        })
    }

    /// The answer to the function's request for the next event.
    fn event(&self, invocation: &Invocation) -> Response<Body> {
        let deadline = SystemTime::now() + self.timeout;
        let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut response = Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", &invocation.request_id)
            .header("lambda-runtime-deadline-ms", deadline.to_string())
            .header("lambda-runtime-invoked-function-arn", &self.arn)
            .header("lambda-runtime-trace-id", &invocation.trace);
        if let Some(context) = &invocation.client_context {
            response = response.header("lambda-runtime-client-context", context);
        }
        let failed = |_| StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.body(Body::from(invocation.event.clone())).unwrap_or_else(failed)
    }

    fn kill(&mut self) {
        self.is_given_up = true;
        // It fails only where the process has ended already.
        let _ = self.child.start_kill();
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What the handlers of the Runtime API share.
#[derive(Clone)]
struct RuntimeApi {
    events: Arc<Mutex<mpsc::Receiver<Response<Body>>>>,
    calls: mpsc::Sender<Call>,
}

impl RuntimeApi {
    fn routes(self) -> Router {
        Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(Self::next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(Self::response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(Self::error))
            .route("/2018-06-01/runtime/init/error", post(Self::init_error))
            .layer(DefaultBodyLimit::disable())
            .with_state(self)
    }

    async fn next(State(api): State<Self>) -> Response<Body> {
        api.tell(Call::Next).await;
        let event = api.events.lock().await.recv().await;
        event.unwrap_or_else(|| StatusCode::GONE.into_response())
    }

    async fn response(State(api): State<Self>, Path(id): Path<String>, body: Bytes) -> StatusCode {
        api.tell(Call::Done(id, Outcome::Answer(body))).await
    }

    async fn error(State(api): State<Self>, Path(id): Path<String>, body: Bytes) -> StatusCode {
        api.tell(Call::Done(id, Outcome::Failure(body))).await
    }

    async fn init_error(State(api): State<Self>, body: Bytes) -> StatusCode {
        api.tell(Call::InitError(body)).await
    }

    async fn tell(&self, call: Call) -> StatusCode {
        match self.calls.send(call).await {
            Ok(()) => StatusCode::ACCEPTED,
            // The host has given the process up.
            Err(_) => StatusCode::GONE,
        }
    }
}

/// The variables that Lambda itself sets
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>).
fn lambda_variables(function: &Function, runtime_api: &str) -> BTreeMap<&'static str, String> {
    let code = function.code.display().to_string();
    let mut variables = BTreeMap::from([
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory.to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", function.name.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "local".to_owned()),
        ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
        ("LAMBDA_TASK_ROOT", code),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("TZ", ":UTC".to_owned()),
        ("_HANDLER", "bootstrap".to_owned()),
    ]);
    if function.json_log {
        variables.insert("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned());
    }
    variables
}

/// Sends each line of `output` to the log, and remembers the last.
fn forward(
    output: impl AsyncRead + Unpin + Send + 'static,
    function: &str,
    log: &Log,
    last_line: &Arc<SyncMutex<Option<String>>>,
) {
    let (function, log, last_line) = (function.to_owned(), Arc::clone(log), Arc::clone(last_line));
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            log(&function, &line);
            *last_line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        }
    });
}

fn exited(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("Runtime exited with error: {status}"),
        Err(error) => format!("Runtime exited: {error}"),
    }
}

/// The outcome, unless it is larger than Lambda passes on.
fn bounded(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Answer(body) if body.len() > MAX_SYNCHRONOUS_BYTES => Outcome::failure(
            "Function.ResponseSizeTooLarge",
            &format!(
                "Response payload size ({} bytes) exceeded maximum allowed payload size ({MAX_SYNCHRONOUS_BYTES} bytes).",
                body.len()
            ),
        ),
        outcome => outcome,
    }
}
