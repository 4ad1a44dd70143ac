use std::{io, path::PathBuf};

/// Why the suite, or a command against it, failed: one line that tells a person what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that must be there cannot be read.
    #[error("{path} cannot be read: {error}", path = .0.display(), error = .1)]
    Unreadable(PathBuf, io::Error),
    /// A file cannot be written.
    #[error("{path} cannot be written: {error}", path = .0.display(), error = .1)]
    Unwritable(PathBuf, io::Error),
    /// There is no template in this folder or above.
    #[error("there is no template.yaml in {path} or above: run the command inside the project", path = .0.display())]
    NoProject(PathBuf),
    /// `template.yaml`, or what it refers to, cannot be used.
    #[error("template.yaml: {0}")]
    Template(String),
    /// The functions do not build; cargo has printed why.
    #[error("the functions do not build: {0}")]
    Build(String),
    /// Something else listens where the suite should.
    #[error("port {0} is in use: end what listens there, or choose another with --port")]
    PortInUse(u16),
    /// The three ports of a suite do not fit above this one.
    #[error("port {0} is too high: the suite takes it and the two above, and the last port is 65535")]
    PortTooHigh(u16),
    /// There is no Python to run moto with.
    #[error("Python 3.10 or newer is needed for Step Functions: {0}")]
    Python(String),
    /// moto did not start or did not do what it was asked.
    #[error("moto, which stands in for Step Functions and SQS, failed: {0}")]
    Moto(String),
    /// What was to be measured could not be.
    #[error("nothing was measured: {0}")]
    Bench(String),
    /// A function's process ended before it asked for its first event.
    #[error("{function} ended during init: {reason}")]
    Init {
        /// The function's name.
        function: String,
        /// How it ended, and the last that it wrote.
        reason: String,
    },
    /// A function failed on an asynchronous event until it was not tried again.
    #[error("{function} failed on its event {tries} times, and it was given up: its log says why")]
    GivenUp {
        /// The function's name.
        function: String,
        /// How often the event was tried.
        tries: u32,
    },
    /// No function has the name.
    #[error("the template has no function {0}: it has {1}")]
    UnknownFunction(String, String),
    /// An event or a payload that was to be sent is not JSON.
    #[error("{0} is not JSON: {1}")]
    NotJson(String, serde_json::Error),
    /// The API cannot be reached or answered with what the client cannot use.
    #[error("{0}")]
    Api(String),
    /// No suite listens where the command looks for one.
    #[error("no suite answers at {0}: start one with `cargo local up`, or say where it is with --url or --port")]
    Unreachable(String),
    /// A parameter was given for a suite that runs already.
    #[error("a suite runs at {0}, with parameters of its own: give them to its `cargo local up`, or use another --url")]
    SuiteRuns(String),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}
