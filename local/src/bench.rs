//! `cargo local bench`: what each function costs up to its first answer and from then on, beside a function that does
//! nothing. AWS is a server on this machine, over TLS, that answers at once: what is measured is the function alone.

mod aws;
mod plot;
mod process;

use crate::{
    Error, build,
    lambda::{Environment, Invocation, Log, Outcome},
    table::{Cell, plain, table},
    template::{Asynchronous, Function, Template},
};
use aws::Aws;
use flate2::{Compression, write::DeflateEncoder};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// The events that stand for a function's main work, where its folder has one of them.
const MAIN_EVENTS: [&str; 3] = ["post.json", "accepted.json", "step.json"];

/// What to measure.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The folder of `template.yaml`.
    pub project: PathBuf,
    /// The logical ids of the functions; all that have events, where there are none.
    pub functions: Vec<String>,
    /// How often each is started.
    pub starts: u32,
    /// How many events each start gets after its first.
    pub calls: u32,
}

/// What was measured, where and when.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The day.
    pub date: String,
    /// The processor and the number of its cores.
    pub machine: String,
    /// How often each function was started.
    pub starts: u32,
    /// How many events each start got after its first.
    pub calls: u32,
    /// The function that does nothing comes first.
    pub functions: Vec<Measured>,
}

/// One function. Times are in milliseconds, sizes in MiB.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// The name of its crate's folder.
    pub name: String,
    /// CPU from the process's start until it has answered its first event and asks for the next.
    pub cold_cpu: Figure,
    /// The part of `cold_cpu` that came after the first event.
    pub first_cpu: Figure,
    /// From the process's start to the first answer.
    pub cold_wall: Figure,
    /// From the first event to its answer, less `warm_p50`.
    pub first_extra: Figure,
    /// Half of the later answers took no longer.
    pub warm_p50: Figure,
    /// 99 of 100 later answers took no longer.
    pub warm_p99: Figure,
    /// CPU of each later event.
    pub warm_cpu: Figure,
    /// The most memory that was resident at a time.
    pub peak_memory: Figure,
    /// The size of the binary in a zip.
    pub zip: Figure,
}

/// One of the figures of a function.
type Of = fn(&Measured) -> Figure;

/// A median over the starts.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// Half of the starts were above.
    pub median: f64,
    /// A quarter of the starts were below.
    pub lower: f64,
    /// A quarter of the starts were above.
    pub upper: f64,
    /// The median by that of the function that does nothing; none where that is next to nothing.
    pub of_floor: Option<f64>,
}

/// A function that is ready to be measured.
struct Subject {
    function: Function,
    binary: PathBuf,
    event: Vec<u8>,
}

/// What one start gave.
struct Start {
    init_cpu: Duration,
    cold_cpu: Duration,
    cold_wall: Duration,
    first: Duration,
    warm_p50: Duration,
    warm_p99: Duration,
    warm_cpu: Duration,
    peak_memory: u64,
}

/// Builds the functions and measures them, each start of one followed by a start of the next, so that what the machine
/// does beside it falls on all of them. `seen` is told of each round, from 1.
///
/// # Errors
/// A function does not build, or fails on its event.
pub async fn run(bench: &Bench, seen: impl Fn(u64)) -> Result<Report, Error> {
    let folder = bench.project.join("target/local/bench");
    let aws = Aws::start(&folder).await?;
    let parameters = BTreeMap::from([("SinkUrl".to_owned(), aws.url.clone())]);
    let template = Template::read(&bench.project.join("template.yaml"), &parameters)?;
    let subjects = subjects(bench, template).await?;
    let surroundings = aws.surroundings();
    let mut starts: Vec<Vec<Start>> = subjects.iter().map(|_| vec![]).collect();
    for round in 1..=bench.starts {
        for (subject, starts) in subjects.iter().zip(&mut starts) {
            starts.push(subject.start(&surroundings, bench.calls).await?);
        }
        seen(round.into());
    }
    let mut functions = vec![];
    for (subject, starts) in subjects.iter().zip(&starts) {
        let measured = subject.measured(starts, functions.first())?;
        functions.push(measured);
    }
    let (date, machine) = (Timestamp::now().to_string().chars().take(10).collect(), process::machine());
    Ok(Report { date, machine, starts: bench.starts, calls: bench.calls, functions })
}

/// The functions that `bench` asks for, built; first the one that does nothing.
async fn subjects(bench: &Bench, template: Template) -> Result<Vec<Subject>, Error> {
    let mut chosen = vec![(floor(&bench.project), b"{}".to_vec())];
    if bench.functions.is_empty() {
        for function in template.functions {
            chosen.extend(event_of(&function)?.map(|event| (function, event)));
        }
    } else {
        for name in &bench.functions {
            let function = template.function(name)?.clone();
            let none = || Error::Bench(format!("{name} has no event: put one into {}", events(&function).display()));
            let event = event_of(&function)?.ok_or_else(none)?;
            chosen.push((function, event));
        }
    }
    eprintln!("Building the functions …");
    let functions: Vec<Function> = chosen.iter().map(|(function, _)| function.clone()).collect();
    let binaries = build::functions(&bench.project, &functions).await?;
    let subject = |((function, event), binary)| Subject { function, binary, event };
    Ok(chosen.into_iter().zip(binaries).map(subject).collect())
}

/// The function that does nothing.
fn floor(project: &Path) -> Function {
    Function {
        logical_id: "empty".to_owned(),
        name: "empty".to_owned(),
        code: project.join("local/empty"),
        timeout: Duration::from_secs(3),
        memory: 128,
        variables: BTreeMap::new(),
        json_log: true,
        asynchronous: Asynchronous { retries: 0, max_age: Duration::ZERO, on_failure: None },
    }
}

fn events(function: &Function) -> PathBuf {
    function.code.join("events")
}

/// The event that stands for the function's work: one of [`MAIN_EVENTS`], or else the first by name.
fn event_of(function: &Function) -> Result<Option<Vec<u8>>, Error> {
    let folder = events(function);
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(None) };
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "json"));
    names.sort_by_key(|name| (!MAIN_EVENTS.contains(&name.as_str()), name.clone()));
    let Some(path) = names.first().map(|name| folder.join(name)) else { return Ok(None) };
    fs::read(&path).map(Some).map_err(|error| Error::Unreadable(path, error))
}

impl Subject {
    async fn start(&self, surroundings: &BTreeMap<String, String>, calls: u32) -> Result<Start, Error> {
        let log: Log = Arc::new(|_, _| {});
        let begin = Instant::now();
        let mut environment = Environment::start(&self.function, &self.binary, surroundings, &log).await?;
        self.ready(&mut environment).await?;
        let process = process::Process::of(environment.process_id())?;
        let init_cpu = process.cpu()?;
        let first = self.answer(&mut environment).await?;
        let cold_wall = begin.elapsed();
        self.ready(&mut environment).await?;
        let cold_cpu = process.cpu()?;
        // Microseconds, up to a minute; these bounds make sense.
        let mut warm = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|_| unreachable!());
        for _ in 0..calls {
            let took = self.answer(&mut environment).await?;
            self.ready(&mut environment).await?;
            warm.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        let percentile = |percent| Duration::from_micros(warm.value_at_percentile(percent));
        Ok(Start {
            init_cpu,
            cold_cpu,
            cold_wall,
            first,
            warm_p50: percentile(50.0),
            warm_p99: percentile(99.0),
            warm_cpu: process.cpu()?.saturating_sub(cold_cpu) / calls.max(1),
            peak_memory: process.peak_memory()?,
        })
    }

    async fn ready(&self, environment: &mut Environment) -> Result<(), Error> {
        let ready = environment.ready().await;
        ready.map_err(|reason| Error::Init { function: self.function.name.clone(), reason })
    }

    /// How long the function takes to answer its event.
    async fn answer(&self, environment: &mut Environment) -> Result<Duration, Error> {
        let invocation = Invocation::new(self.event.clone().into());
        let begin = Instant::now();
        match environment.invoke(&invocation).await {
            Outcome::Answer(_) => Ok(begin.elapsed()),
            Outcome::Failure(error) => {
                let error = String::from_utf8_lossy(&error);
                Err(Error::Bench(format!("{} fails on its event: {error}", self.function.name)))
            }
        }
    }

    fn measured(&self, starts: &[Start], floor: Option<&Measured>) -> Result<Measured, Error> {
        let figure = |of_start: &dyn Fn(&Start) -> f64, of_floor: fn(&Measured) -> Figure| {
            Figure::new(starts.iter().map(of_start).collect(), floor.map(of_floor))
        };
        let millis = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        let name = self.function.code.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let zip = mebibytes(zipped(&self.binary)?);
        Ok(Measured {
            name,
            cold_cpu: figure(&|start| millis(start.cold_cpu), |floor| floor.cold_cpu),
            first_cpu: figure(&|start| millis(start.cold_cpu.saturating_sub(start.init_cpu)), |floor| floor.first_cpu),
            cold_wall: figure(&|start| millis(start.cold_wall), |floor| floor.cold_wall),
            first_extra: figure(&|start| millis(start.first) - millis(start.warm_p50), |floor| floor.first_extra),
            warm_p50: figure(&|start| millis(start.warm_p50), |floor| floor.warm_p50),
            warm_p99: figure(&|start| millis(start.warm_p99), |floor| floor.warm_p99),
            warm_cpu: figure(&|start| millis(start.warm_cpu), |floor| floor.warm_cpu),
            peak_memory: figure(&|start| mebibytes(start.peak_memory), |floor| floor.peak_memory),
            zip: figure(&|_| zip, |floor| floor.zip),
        })
    }
}

impl Figure {
    fn new(mut values: Vec<f64>, floor: Option<Self>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |part: usize| values.get((values.len() * part / 4).min(values.len().saturating_sub(1)));
        let [lower, median, upper] = [1, 2, 3].map(|part| at(part).copied().unwrap_or_default());
        let of_floor = floor.filter(|floor| floor.median > 0.01).map(|floor| median / floor.median);
        Self { median, lower, upper, of_floor }
    }

    /// The median, half of the way from the lower to the upper quartile, and the ratio to the floor.
    fn cell(self) -> Cell {
        let Self { median, lower, upper, of_floor } = self;
        let spread = (upper - lower) / 2.0;
        let spread = if spread < 0.005 { String::new() } else { format!(" ± {spread:.2}") };
        let of_floor = of_floor.map(|ratio| format!(", {ratio:.1}x")).unwrap_or_default();
        plain(&format!("{median:.2}{spread}{of_floor}"))
    }
}

impl Report {
    /// All that the command prints, in colours.
    #[must_use]
    pub fn text(&self) -> String {
        let title = format!("{}, {}: medians of {} starts", self.date, self.machine, self.starts);
        let after = "± half the distance between the quartiles, and how often the function that does nothing";
        format!("{}\n\n{}\n{}\n", title.bold(), self.table(), after.dimmed())
    }

    /// A row for each figure, a column for each function.
    fn table(&self) -> String {
        let rows: [(&str, Of); 9] = [
            ("cold CPU, ms", |of| of.cold_cpu),
            ("of it in the first request, ms", |of| of.first_cpu),
            ("start to first answer, ms", |of| of.cold_wall),
            ("first request, less a warm one, ms", |of| of.first_extra),
            ("warm, p50, ms", |of| of.warm_p50),
            ("warm, p99, ms", |of| of.warm_p99),
            ("warm CPU per call, ms", |of| of.warm_cpu),
            ("peak memory, MiB", |of| of.peak_memory),
            ("zip, MiB", |of| of.zip),
        ];
        let mut header = vec![""];
        header.extend(self.functions.iter().map(|measured| measured.name.as_str()));
        let rows = rows.into_iter().map(|(name, figure)| {
            let figures = self.functions.iter().map(|measured| figure(measured).cell());
            [(name.to_owned(), Style::new().bold())].into_iter().chain(figures).collect()
        });
        table(&header, false, rows)
    }

    /// The CPU of a cold start, a bar for each function.
    ///
    /// # Errors
    /// The plot cannot be drawn.
    pub fn plot(&self) -> Result<String, Error> {
        plot::cold_cpu(self)
    }
}

/// The size of the file once deflated, as in a zip.
fn zipped(binary: &Path) -> Result<u64, Error> {
    let mut deflated = DeflateEncoder::new(Count(0), Compression::default());
    let file = fs::File::open(binary);
    let read = file.and_then(|mut file| io::copy(&mut file, &mut deflated)).and_then(|_| deflated.finish());
    read.map(|Count(bytes)| bytes).map_err(|error| Error::Unreadable(binary.to_owned(), error))
}

/// Counts the bytes that are written to it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "no file and no memory here is that large")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1_024 * 1_024)
}
