//! moto, a third party's Step Functions and SQS, in a Python of its own below `target/`.

use crate::{
    ACCOUNT, Error, REGION, client, process,
    progress::Progress,
    template::{Queue, Template},
};
use aws_sdk_sqs::types::QueueAttributeName;
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, ChildStdin, Command},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// moto and all that it needs, each package at one version and by its hash.
const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// Makes Python print its version, as far as an installation is made for one.
const VERSION: [&str; 2] = ["-c", "import sys; print(*sys.version_info[:2])"];

/// The program that serves moto, and ends with its standard input.
const SERVE: &str = include_str!("serve_moto.py");

/// How long moto may take to start: it imports for seconds on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// A running moto. It ends when this is dropped, and with the process that holds this, however that ends.
#[derive(Debug)]
pub struct Moto {
    /// Where it takes the AWS API's calls.
    pub url: String,
    process: Child,
    /// moto ends with it, and so would [`Moto::ended`] end it: `wait` closes what of the input the process still has.
    _stdin: Option<ChildStdin>,
    last_line: JoinHandle<Option<String>>,
}

/// Makes the Python environment of moto in `folder`, unless it is there already, and gives back its interpreter.
///
/// # Errors
/// There is no Python that will do, or the packages cannot be installed.
pub async fn install(folder: &Path, progress: Progress) -> Result<PathBuf, Error> {
    fs::create_dir_all(folder)?;
    // Several suites may start at once: the first installs, the others wait for it.
    let lock = File::create(folder.join("lock"))?;
    while let Err(error) = lock.try_lock() {
        match error {
            TryLockError::WouldBlock => sleep(Duration::from_millis(100)).await,
            TryLockError::Error(error) => return Err(error.into()),
        }
    }
    let environment = folder.join("python");
    let interpreter = environment.join("bin/python");
    // Written last, so that an installation that was cut off is done again; so is one whose Python is gone or another.
    let stamp = environment.join("installed.txt");
    let now = run(Command::new(&interpreter).args(VERSION)).await.map(|version| format!("# {version}{REQUIREMENTS}"));
    if now.is_ok_and(|now| fs::read_to_string(&stamp).is_ok_and(|installed| installed == now)) {
        return Ok(interpreter);
    }
    let _step = progress.step("Installing moto, which stands in for Step Functions and SQS (once)");
    let python = run(Command::new("python3").args(VERSION)).await?;
    let version: Vec<u32> = python.split_whitespace().filter_map(|part| part.parse().ok()).collect();
    if version.as_slice() < [3, 10].as_slice() {
        return Err(Error::Python(format!("python3 is {version:?}")));
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment)).await?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement"];
    run(Command::new(&interpreter).args(pip).arg(&requirements)).await?;
    fs::write(&stamp, format!("# {python}{REQUIREMENTS}"))?;
    Ok(interpreter)
}

/// Runs a program to its end and gives back what it printed.
async fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.as_std().get_program().display().to_string();
    let output = process::output(command.stderr(Stdio::piped())).await;
    let output = output.map_err(|error| Error::Python(format!("{program} cannot be started ({error}): install it")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let printed = [output.stderr, output.stdout].concat();
    let printed = String::from_utf8_lossy(&printed);
    let why = printed.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it did not say why").trim();
    let command: Vec<_> = command.as_std().get_args().map(|arg| arg.to_string_lossy()).collect();
    Err(Error::Python(format!("{program} {} failed: {why}", command.join(" "))))
}

impl Moto {
    /// Starts moto on `port`, 0 for a free one. Its state machines invoke the functions on `lambda_port`.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(interpreter: &Path, port: u16, lambda_port: u16) -> Result<Self, Error> {
        let mut process = Command::new(interpreter)
            .args(["-c", SERVE, &port.to_string(), &lambda_port.to_string()])
            // Nothing of the person's own AWS setup.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Error::Moto(error.to_string()))?;
        let last_line = tokio::spawn(last_line(process.stderr.take()));
        let stdin = process.stdin.take();
        let mut moto = Self { url: String::new(), process, _stdin: stdin, last_line };
        let mut ready = String::new();
        if let Some(stdout) = moto.process.stdout.take() {
            let read = timeout(START_TIMEOUT, BufReader::new(stdout).read_line(&mut ready)).await;
            read.map_err(|_| Error::Moto(format!("it did not start within {START_TIMEOUT:?}")))??;
        }
        match (ready.trim(), ready.trim().parse::<u16>()) {
            ("in use", _) => Err(Error::PortInUse(port)),
            (_, Ok(port)) => {
                moto.url = format!("http://127.0.0.1:{port}");
                Ok(moto)
            }
            (_, Err(_)) => Err(moto.ended().await),
        }
    }

    /// Waits for its end, which nobody wants, and tells why.
    pub async fn ended(&mut self) -> Error {
        let status = self.process.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        // A process that moto left behind may hold the pipe open.
        let last_line = timeout(Duration::from_secs(1), &mut self.last_line).await;
        let last_line = last_line.ok().and_then(Result::ok).flatten();
        Error::Moto(last_line.unwrap_or_else(|| format!("it ended with {status}")))
    }

    /// A client for its Step Functions.
    #[must_use]
    pub fn step_functions(&self) -> aws_sdk_sfn::Client {
        aws_sdk_sfn::Client::new(&client::aws(&self.url))
    }

    /// A client for its SQS.
    #[must_use]
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&client::aws(&self.url))
    }

    /// Makes the template's queues and state machines.
    ///
    /// # Errors
    /// moto does not take one of them.
    pub async fn deploy(&self, template: &Template) -> Result<(), Error> {
        let sqs = self.sqs();
        for Queue { name, visibility_timeout } in &template.queues {
            let made = sqs.create_queue().queue_name(name);
            let made =
                made.attributes(QueueAttributeName::VisibilityTimeout, visibility_timeout.to_string()).send().await;
            made.map_err(|error| Error::Moto(format!("{name}: {}", error.into_service_error())))?;
        }
        let step_functions = self.step_functions();
        for state_machine in &template.state_machines {
            let made = step_functions
                .create_state_machine()
                .name(&state_machine.name)
                .definition(&state_machine.definition)
                .role_arn(format!("arn:aws:iam::{ACCOUNT}:role/{}", state_machine.name))
                .send()
                .await;
            made.map_err(|error| Error::Moto(format!("{}: {}", state_machine.name, error.into_service_error())))?;
        }
        Ok(())
    }
}

/// The last line of `stderr` that is not empty. Unread, the pipe would fill and hold moto up.
async fn last_line(stderr: Option<ChildStderr>) -> Option<String> {
    let mut last = None;
    let mut lines = BufReader::new(stderr?).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        last = Some(line).filter(|line| !line.is_empty()).or(last);
    }
    last
}

/// Where a queue of this name is; moto goes by the path alone.
pub(crate) fn queue_url(name: &str) -> String {
    format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}")
}
