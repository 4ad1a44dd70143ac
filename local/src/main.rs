//! `cargo local`: the suite on one machine.

mod control;
mod show;

use clap::{Args, Parser, Subcommand};
use control::{List, Load, One, RedriveFailed};
use local::{
    Error, Options, Suite, bench,
    client::Client,
    lambda::{Invocation, Outcome},
    progress::{Bar, Progress},
    scaling::Account,
    suite::project_of,
};
use serde_json::value::{RawValue, to_raw_value};
use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

/// Runs the whole suite on this machine: no AWS account, no Docker.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build and run the suite until Ctrl-C
    Up(Up),
    /// Post a payload, follow its workflow, print the result as JSON
    Trigger(Trigger),
    /// Invoke one function with an event and print its answer
    Invoke(Invoke),
    /// Post to a running suite at a steady rate, and look what became of each workflow
    Load(Load),
    /// Measure what each function costs, cold and warm, beside a function that does nothing
    Bench(Bench),
    /// List the workflows that have started, the newest first
    List(List),
    /// Show how one workflow stands and went
    Show(One),
    /// Stop a workflow
    Stop(One),
    /// Run a failed workflow again from the state that failed
    Redrive(One),
    /// Start the requests in the on-failure queue, those that could not be started before
    RedriveFailed(RedriveFailed),
    /// Print which of AWS's quotas a rate of requests meets first, and what a million workflows cost
    Scaling(Scaling),
}

#[derive(Args)]
struct Up {
    /// Where the API listens; Lambda takes the next port, Step Functions and SQS the one after
    #[arg(long, default_value_t = 5000)]
    port: u16,
    #[command(flatten)]
    template: Parameters,
}

/// What the template is given.
#[derive(Args)]
struct Parameters {
    /// The template's Environment parameter
    #[arg(long)]
    environment: Option<String>,
    /// Another parameter of the template, as in SinkUrl=http://127.0.0.1:8000/; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
}

#[derive(Args)]
struct Trigger {
    /// The payload: JSON, @FILE, or - for standard input
    #[arg(long, default_value = "{}")]
    data: String,
    /// The API; where nothing listens there on this machine, a suite is started for this call
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    url: String,
    #[command(flatten)]
    template: Parameters,
}

#[derive(Args)]
struct Invoke {
    /// The function's logical id or name
    function: String,
    /// The event's file, or - for standard input
    #[arg(long, short)]
    event: PathBuf,
    #[command(flatten)]
    template: Parameters,
}

#[derive(Args)]
struct Bench {
    /// The functions' logical ids; without any, all that have a folder of events
    functions: Vec<String>,
    /// How often each function is started
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    starts: u32,
    /// How many events each start gets after its first
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calls: u32,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Also draw the CPU of the cold starts as a plot, into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Args)]
struct Scaling {
    /// The region
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// How many Lambda environments the account may have at once; a new one may have 10
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// Also draw the quotas as a plot, into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| {
        show::error(&error);
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode, Error> {
    // Input is read before the signals are ours: Ctrl-C ends the wait for standard input too.
    let is_up = matches!(command, Command::Up(_));
    // They have something to put back or to tell, and end by themselves.
    let ends_by_itself = matches!(command, Command::RedriveFailed(_) | Command::Load(_));
    let work: Pin<Box<dyn Future<Output = Result<ExitCode, Error>>>> = match command {
        Command::Up(up) => Box::pin(up.run()),
        Command::Trigger(trigger) => {
            let payload = trigger.payload()?;
            Box::pin(trigger.run(payload))
        }
        Command::Invoke(invoke) => {
            let event = invoke.event()?;
            Box::pin(invoke.run(event))
        }
        Command::Load(load) => {
            let payload = load.payload()?;
            Box::pin(load.run(payload, told_to_stop()))
        }
        Command::Bench(bench) => Box::pin(bench.run()),
        Command::List(list) => Box::pin(list.run()),
        Command::Show(one) => Box::pin(one.show()),
        Command::Stop(one) => Box::pin(one.stop()),
        Command::Redrive(one) => Box::pin(one.redrive()),
        Command::RedriveFailed(redrive) => Box::pin(redrive.run(told_to_stop())),
        Command::Scaling(scaling) => Box::pin(async { scaling.run() }),
    };
    let runtime = Runtime::new()?;
    let ended = runtime.block_on(async {
        // What is under way when a signal comes is dropped, and its processes with it.
        tokio::select! {
            biased;
            // To be told to stop is how `up` ends; the others did not get to do their work.
            signal = told_to_stop(), if !ends_by_itself => signal.map(|code| if is_up { ExitCode::SUCCESS } else { code }),
            outcome = work => outcome,
        }
    });
    // The tasks end their processes; a thread that hangs is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

/// Waits for Ctrl-C or SIGTERM and gives back the exit code that a shell has for it.
async fn told_to_stop() -> Result<ExitCode, Error> {
    let (mut ctrl_c, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = ctrl_c.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    }
}

impl Up {
    async fn run(self) -> Result<ExitCode, Error> {
        let mut suite = Suite::start(&Options {
            port: self.port,
            progress: Progress::Shown,
            log: Arc::new(show::log_line),
            ..self.template.options()?
        })
        .await?;
        show::up(&suite);
        Err(suite.moto.ended().await)
    }
}

impl Trigger {
    fn payload(&self) -> Result<String, Error> {
        payload(&self.data)
    }

    async fn run(self, payload: String) -> Result<ExitCode, Error> {
        let mut client = Client::new(&self.url)?;
        let mut own = None;
        if client.is_here() && !client.is_there().await? {
            let log = Arc::new(show::warning_line);
            let suite = Suite::start(&Options { progress: Progress::Shown, log, ..self.template.options()? }).await?;
            client = Client::new(&suite.url)?;
            own = Some(suite);
        } else if self.template.environment.is_some() || !self.template.parameters.is_empty() {
            return Err(Error::SuiteRuns(self.url));
        }
        let id = client.trigger(payload).await?;
        let mut steps = show::Steps::new(&id);
        // The workflow of an event that was given up stays as it is, which the API cannot tell from one that waits.
        let given_up = async {
            match &own {
                Some(suite) => suite.lambda.gave_up().await,
                None => std::future::pending().await,
            }
        };
        let workflow = tokio::select! {
            workflow = client.follow(&id, |seen| steps.update(seen)) => workflow?,
            error = given_up => return Err(error),
        };
        steps.end(&workflow.status);
        drop(own);
        show::json(&workflow.answer);
        Ok(if workflow.status == "SUCCEEDED" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Invoke {
    fn event(&self) -> Result<Box<RawValue>, Error> {
        let event = read(&self.event)?;
        serde_json::from_str(&event).map_err(|error| Error::NotJson(self.event.display().to_string(), error))
    }

    async fn run(self, event: Box<RawValue>) -> Result<ExitCode, Error> {
        let log = Arc::new(|function: &str, line: &str| eprintln!("{function} | {line}"));
        let options = Options { progress: Progress::Shown, log, ..self.template.options()? };
        // A slip of the pen is told before anything is built.
        let function = options.template()?.function(&self.function)?.name.clone();
        let suite = Suite::start(&options).await?;
        let invocation = Invocation::new(event.get().to_owned().into());
        let outcome = suite.lambda.invoke(&function, &invocation).await;
        drop(suite);
        let (body, code) = match outcome {
            Some(Outcome::Answer(body)) => (body, ExitCode::SUCCESS),
            Some(Outcome::Failure(body)) => (body, ExitCode::FAILURE),
            None => return Err(Error::UnknownFunction(self.function, String::new())),
        };
        println!("{}", String::from_utf8_lossy(&body));
        Ok(code)
    }
}

impl Bench {
    async fn run(self) -> Result<ExitCode, Error> {
        let bench = bench::Bench {
            project: project_of(&env::current_dir()?)?,
            functions: self.functions,
            starts: self.starts,
            calls: self.calls,
        };
        if let Some(file) = &self.svg {
            // A path that cannot be written is told before anything is measured. What is there stays until then.
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .map_err(|error| Error::Unwritable(file.clone(), error))?;
        }
        let (bar, rounds) = (Bar::default(), u64::from(bench.starts));
        let report = bench::run(&bench, |round| bar.at(round, rounds, "rounds of starts")).await?;
        drop(bar);
        if self.json {
            show::json(&to_raw_value(&report).map_err(|error| Error::NotJson("the report".to_owned(), error))?);
        } else {
            anstream::print!("{}", report.text());
        }
        if let Some(file) = self.svg {
            fs::write(&file, report.plot()?).map_err(|error| Error::Unwritable(file, error))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Scaling {
    fn run(self) -> Result<ExitCode, Error> {
        let account = Account { region: self.region, concurrency: self.concurrency };
        if let Some(file) = self.svg {
            fs::write(&file, account.plot()?).map_err(|error| Error::Unwritable(file, error))?;
        }
        anstream::print!("{}", account.report());
        Ok(ExitCode::SUCCESS)
    }
}

impl Parameters {
    fn options(&self) -> Result<Options, Error> {
        let mut options = Options::new(project_of(&env::current_dir()?)?);
        options.parameters = self.parameters.iter().cloned().collect();
        options.parameters.extend(self.environment.clone().map(|name| ("Environment".to_owned(), name)));
        Ok(options)
    }
}

/// A parameter of the template, from its name and value with a `=` between.
fn parameter(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What `--data` says: itself, `@FILE`, or `-`.
fn payload(data: &str) -> Result<String, Error> {
    match data.strip_prefix('@') {
        Some(file) => read(Path::new(file)),
        None if data == "-" => read(Path::new("-")),
        None => Ok(data.to_owned()),
    }
}

/// The text of a file, or of standard input for `-`.
fn read(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        fs::read_to_string(path).map(|file| text = file)
    };
    read.map(|()| text).map_err(|error| Error::Unreadable(path.to_owned(), error))
}
