//! The whole suite, running.

use crate::{
    Error, build,
    event_source::EventSources,
    gateway,
    lambda::{self, Lambda, Log},
    moto::{self, Moto},
    progress::Progress,
    template::{Function, Template},
};
use axum::Router;
use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// How a suite is to run.
#[derive(Clone)]
pub struct Options {
    /// The folder of `template.yaml`.
    pub project: PathBuf,
    /// The port of the HTTP front; Lambda's is the next, and Step Functions' and SQS' the one after. With 0, all
    /// three are free ones.
    pub port: u16,
    /// Parameters of the template.
    pub parameters: BTreeMap<String, String>,
    /// More environment variables for a function, by its logical id: the `--env-vars` of SAM CLI.
    pub variables: BTreeMap<String, BTreeMap<String, String>>,
    /// The waits before the second and the third try of an asynchronous event: 1 and 2 minutes on AWS.
    pub retry_delays: [Duration; 2],
    /// Where the steps of the start are told.
    pub progress: Progress,
    /// Where the functions' log lines go.
    pub log: Log,
}

impl Options {
    /// The suite in `project` on free ports, with nothing told to anyone.
    #[must_use]
    pub fn new(project: PathBuf) -> Self {
        Self {
            project,
            port: 0,
            parameters: BTreeMap::new(),
            variables: BTreeMap::new(),
            retry_delays: [Duration::from_secs(1), Duration::from_secs(2)],
            progress: Progress::Silent,
            log: Arc::new(|_, _| {}),
        }
    }

    /// The project's template.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be run here.
    pub fn template(&self) -> Result<Template, Error> {
        Template::read(&self.project.join("template.yaml"), &self.parameters)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("project", &self.project)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// A running suite. Dropping it ends all of its processes.
#[derive(Debug)]
pub struct Suite {
    /// Where the API is.
    pub url: String,
    /// Where `Invoke` is.
    pub lambda_url: String,
    /// What runs.
    pub template: Template,
    /// The functions.
    pub lambda: Lambda,
    /// Step Functions and SQS.
    pub moto: Moto,
    servers: Vec<JoinHandle<io::Result<()>>>,
    /// They end with it.
    _event_sources: EventSources,
}

impl Suite {
    /// Builds and starts the suite.
    ///
    /// # Errors
    /// Whatever keeps it from running; nothing is left behind.
    pub async fn start(options: &Options) -> Result<Self, Error> {
        let progress = options.progress;
        let mut template = options.template()?;
        for function in &mut template.functions {
            function.variables.extend(options.variables.get(&function.logical_id).cloned().unwrap_or_default());
        }
        let [port, lambda_port, moto_port] = ports(options.port)?;
        let front = listen(port).await?;
        let invoke = listen(lambda_port).await?;
        // Taken and given back: who is in the way is known before anything is built.
        drop(listen(moto_port).await?);

        let binaries = build(&options.project, &template.functions, progress).await?;
        let interpreter = moto::install(&options.project.join("target/local"), progress).await?;
        let step = progress.step("Starting Step Functions and SQS");
        let moto = Moto::start(&interpreter, moto_port, invoke.local_addr()?.port()).await?;
        moto.deploy(&template).await?;
        drop(step);

        let step = progress.step("Starting the functions");
        let lambda_url = format!("http://{}", invoke.local_addr()?);
        let functions = template.functions.iter().cloned().zip(binaries).collect();
        let surroundings = surroundings(&moto.url, &lambda_url);
        let lambda = Lambda::new(functions, &surroundings, options.retry_delays, moto.sqs(), &options.log);
        let url = format!("http://{}", front.local_addr()?);
        let routes = gateway::router(&template.routes, &lambda);
        let event_sources = EventSources::start(template.mappings.clone(), &lambda, &moto.sqs());
        let calls = lambda::routes(lambda.clone()).merge(event_sources.routes());
        let servers = vec![serve(invoke, calls), serve(front, routes)];
        let suite = Self { url, lambda_url, template, lambda, moto, servers, _event_sources: event_sources };
        suite.lambda.warm().await?;
        drop(step);
        Ok(suite)
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
        self.lambda.stop();
    }
}

/// The ports of the HTTP front, of Lambda and of moto.
///
/// # Errors
/// They would be beyond the last port.
pub fn ports(first: u16) -> Result<[u16; 3], Error> {
    match first {
        0 => Ok([0; 3]),
        1..=65_533 => Ok([first, first + 1, first + 2]),
        _ => Err(Error::PortTooHigh(first)),
    }
}

async fn listen(port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse(port),
        _ => Error::Io(error),
    })
}

fn serve(listener: TcpListener, routes: Router) -> JoinHandle<io::Result<()>> {
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, routes).await })
}

/// The binary of each function, in the order of the functions.
async fn build(project: &Path, functions: &[Function], progress: Progress) -> Result<Vec<PathBuf>, Error> {
    if progress == Progress::Shown {
        eprintln!("Building the functions …");
    }
    build::functions(project, functions).await
}

/// What Lambda gives every function beside its own variables: where AWS is, and credentials for it.
pub(crate) fn surroundings(aws: &str, lambda: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID".to_owned(), "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), "local".to_owned()),
        ("AWS_SESSION_TOKEN".to_owned(), "local".to_owned()),
        ("AWS_ENDPOINT_URL".to_owned(), aws.to_owned()),
        ("AWS_ENDPOINT_URL_LAMBDA".to_owned(), lambda.to_owned()),
    ]);
    variables.extend(std::env::var("RUST_LOG").map(|levels| ("RUST_LOG".to_owned(), levels)));
    variables
}

/// The nearest folder at or above `from` that has a `template.yaml`.
///
/// # Errors
/// There is none.
pub fn project_of(from: &Path) -> Result<PathBuf, Error> {
    let found = from.ancestors().find(|folder| folder.join("template.yaml").is_file());
    found.map(Path::to_owned).ok_or_else(|| Error::NoProject(from.to_owned()))
}
