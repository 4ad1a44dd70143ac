//! `cargo local list`, `show`, `stop` and `redrive`, the API's own routes for a person, `load` and
//! `redrive-failed`.

use crate::show;
use clap::Args;
use local::{
    Error,
    client::Client,
    load,
    progress::Bar,
    redrive::{self, Redriven},
    suite,
};
use serde_json::value::{RawValue, to_raw_value};
use std::{process::ExitCode, time::Duration};

/// Where the API is, and for whom the answer.
#[derive(Args)]
struct Api {
    /// The API
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    url: String,
    /// Print the API's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct List {
    /// Only those of this status, as in RUNNING or FAILED
    #[arg(long)]
    status: Option<String>,
    /// How many, from 1 to 100
    #[arg(long, default_value_t = 20)]
    limit: u8,
    /// The page to show, as the one before names it
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    api: Api,
}

#[derive(Args)]
pub(crate) struct One {
    /// The workflow's id
    id: String,
    #[command(flatten)]
    api: Api,
}

#[derive(Args)]
pub(crate) struct RedriveFailed {
    /// The port of the running suite
    #[arg(long, default_value_t = 5000)]
    port: u16,
}

#[derive(Args)]
pub(crate) struct Load {
    /// Posts a second
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// For how long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The body of each post, `@FILE` for what a file holds, or `-` for standard input
    #[arg(long, default_value = "{}")]
    data: String,
    #[command(flatten)]
    api: Api,
}

impl Load {
    pub(crate) fn payload(&self) -> Result<String, Error> {
        crate::payload(&self.data)
    }

    /// At `stop` it posts no more, and tells what has become of what it has posted.
    pub(crate) async fn run(self, payload: String, stop: impl Future) -> Result<ExitCode, Error> {
        let client = Client::new(&self.api.url)?;
        if !client.is_there().await? {
            return Err(Error::Unreachable(self.api.url));
        }
        let length = Duration::from_secs(self.seconds);
        let load = load::Load { rate: self.rate, length, payload, patience: Duration::from_secs(30) };
        let bar = Bar::default();
        let report = load::run(&load, &client, |done, all, what| bar.at(done, all, what), stop).await;
        drop(bar);
        let json = to_raw_value(&report).map_err(|error| Error::NotJson("the report".to_owned(), error))?;
        self.api.print(&json, || show::load(&report));
        Ok(if report.is_perfect() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl RedriveFailed {
    /// Ends at `stop` with the mapping switched off.
    pub(crate) async fn run(self, stop: impl Future) -> Result<ExitCode, Error> {
        let [_, lambda, sqs] = suite::ports(self.port)?.map(|port| format!("http://127.0.0.1:{port}"));
        let bar = Bar::default();
        let seen = |all: u64, untried| bar.at(all.saturating_sub(untried), all, "requests are tried");
        let outcomes = redrive::failed(&lambda, &sqs, seen, stop).await?;
        drop(bar);
        outcomes.iter().for_each(show::redriven);
        let is_done = outcomes.iter().all(Redriven::is_done);
        Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Api {
    /// Prints the answer as it came, or what `readable` makes of it.
    fn print(&self, answer: &RawValue, readable: impl FnOnce()) -> ExitCode {
        if self.json {
            show::json(answer);
        } else {
            readable();
        }
        ExitCode::SUCCESS
    }
}

impl List {
    pub(crate) async fn run(self) -> Result<ExitCode, Error> {
        let client = Client::new(&self.api.url)?;
        let page = client.workflows(self.status.as_deref(), self.limit, self.cursor.as_deref()).await?;
        Ok(self.api.print(&page.answer, || show::page(&page)))
    }
}

impl One {
    pub(crate) async fn show(self) -> Result<ExitCode, Error> {
        let client = Client::new(&self.api.url)?;
        let workflow = client.workflow(&self.id).await?;
        let steps = client.steps(&self.id).await?;
        Ok(self.api.print(&workflow.with(&steps)?, || show::workflow(&self.id, &workflow, &steps)))
    }

    pub(crate) async fn stop(self) -> Result<ExitCode, Error> {
        let answer = Client::new(&self.api.url)?.stop(&self.id).await?;
        Ok(self.api.print(&answer, || show::done(&self.id, "stopped")))
    }

    pub(crate) async fn redrive(self) -> Result<ExitCode, Error> {
        let answer = Client::new(&self.api.url)?.redrive(&self.id).await?;
        Ok(self.api.print(&answer, || show::done(&self.id, "runs again")))
    }
}
