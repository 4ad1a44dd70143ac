//! What a person sees: colours on a terminal, plain text elsewhere (`anstream` tells the two apart).

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use local::{
    Error, Suite,
    client::{Page, Step, Workflow},
    load::{Report, Times},
    redrive::Redriven,
};
use owo_colors::{AnsiColors, OwoColorize};
use serde_json::{Value, value::RawValue};
use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

const COLOURS: [AnsiColors; 6] = [
    AnsiColors::Cyan,
    AnsiColors::Magenta,
    AnsiColors::Yellow,
    AnsiColors::Blue,
    AnsiColors::Green,
    AnsiColors::BrightRed,
];

/// How a line begins that is a metric (`shared::metrics`).
const METRIC: &str = r#"{"_aws":"#;

/// A line of a function's log, under the function's name in a colour of its own. Metrics are for
/// CloudWatch: nobody follows them line by line.
pub(crate) fn log_line(function: &str, line: &str) {
    if line.starts_with(METRIC) {
        return;
    }
    let colour = COLOURS[function.bytes().map(usize::from).sum::<usize>() % COLOURS.len()];
    anstream::println!("{} {line}", format!("{function:<20} |").color(colour));
}

/// A line of a function's log on standard error, unless it is there for information only.
pub(crate) fn warning_line(function: &str, line: &str) {
    let level = serde_json::from_str::<Value>(line).unwrap_or_default()["level"].clone();
    let is_quiet = line.starts_with(METRIC) || ["TRACE", "DEBUG", "INFO"].iter().any(|quiet| level == *quiet);
    if !is_quiet {
        eprintln!("{function} | {line}");
    }
}

/// An error in one line, on standard error.
pub(crate) fn error(error: &Error) {
    anstream::eprintln!("{} {error}", "error:".red().bold());
}

/// Where a running suite is, and what to do with it.
pub(crate) fn up(suite: &Suite) {
    let line = |name: &str, url: &str, what: &str| anstream::println!("  {:<16}{url}  {}", name.bold(), what.dimmed());
    anstream::println!("\n{}", "The suite is up.".green().bold());
    line("API", &suite.url, "");
    line("Lambda", &suite.lambda_url, "for aws lambda invoke --endpoint-url");
    line("Step Functions", &suite.moto.url, "and SQS, for --endpoint-url");
    anstream::println!("\nTrigger a workflow, and follow its Location:\n");
    anstream::println!(
        "  curl -i -X POST {}/trigger-workflow -H \"Content-Type: application/json\" -d '{{\"key\":\"value\"}}'\n",
        suite.url
    );
    anstream::println!("{}\n", "Ctrl-C ends it.".dimmed());
}

/// `value` on standard output, as it came.
pub(crate) fn json(value: &RawValue) {
    println!("{}", value.get());
}

/// A line for each workflow.
pub(crate) fn page(page: &Page) {
    if page.workflows.is_empty() {
        anstream::eprintln!("{}", "no workflows".dimmed());
    }
    for workflow in &page.workflows {
        let took = workflow.stopped_at.map(|stopped| stopped.duration_since(workflow.started_at).as_secs_f64());
        anstream::println!(
            "{}  {}  {:>10}  {}",
            workflow.workflow_id,
            format!("{:.0}", workflow.started_at).dimmed(),
            took.map(|seconds| format!("{seconds:.2} s")).unwrap_or_default(),
            workflow.status.color(colour_of(&workflow.status))
        );
    }
    if let Some(next) = &page.next {
        anstream::eprintln!("{}", format!("more: --cursor {next}").dimmed());
    }
}

/// One workflow: how it stands, its steps, and what it gave or why it failed.
pub(crate) fn workflow(id: &str, workflow: &Workflow, steps: &[Step]) {
    anstream::println!("workflow {} {}", id.bold(), workflow.status.color(colour_of(&workflow.status)).bold());
    for step in steps {
        println!("  {}", describe(step));
    }
    for name in ["error", "cause", "output"] {
        let answer: Value = serde_json::from_str(workflow.answer.get()).unwrap_or_default();
        match &answer[name] {
            Value::Null => {}
            Value::String(text) => println!("{name}: {text}"),
            value => println!("{name}: {value:#}"),
        }
    }
}

/// What was asked for is under way.
pub(crate) fn done(id: &str, what: &str) {
    anstream::println!("workflow {} {what}", id.bold());
}

/// What became of the requests in an on-failure queue.
pub(crate) fn redriven(redriven: &Redriven) {
    let Redriven { queue, started, failed, hidden, was_on } = redriven;
    match (started, failed + hidden) {
        (0, 0) => anstream::println!("{queue} is empty"),
        (_, 0) => anstream::println!("{}, none left", format!("{started} started from {queue}").green()),
        _ => anstream::println!("{started} started from {queue}"),
    }
    if *failed > 0 {
        let what = format!("{failed} failed again and stay there");
        anstream::println!("{}: the log of `cargo local up` says why", what.red());
    }
    if *hidden > 0 {
        let what = format!("{hidden} were not tried");
        anstream::println!("{}: they failed a moment ago; try again in three minutes", what.yellow());
    }
    if *was_on {
        anstream::println!("{}", "its event source mapping is on, and goes on trying".dimmed());
    }
}

/// What became of a load.
pub(crate) fn load(report: &Report) {
    let Report { posted, rate, accepted, answers, workflows, missing, .. } = report;
    let times = |times: &Times| {
        let of = |percent| times.percentile(percent);
        format!("p50 {} ms, p90 {} ms, p99 {} ms, at most {} ms", of(50.0), of(90.0), of(99.0), times.max())
    };
    anstream::println!("{} at {rate:.1} a second, {accepted} accepted", format!("{posted} posts").bold());
    if *accepted > 0 {
        println!("  to the answer            {}", times(answers));
    }
    for (refusal, count) in &report.refused {
        anstream::println!("  {} {refusal}", format!("{count} times:").red());
    }
    if *accepted > 0 {
        println!("  to the workflow's end    {}", times(workflows));
    }
    for (status, count) in &report.ended {
        anstream::println!("  {count} {}", status.color(colour_of(status)));
    }
    if let Some(error) = &report.list_failed {
        anstream::println!("  {} {error}", "the workflows could not be listed:".red());
    }
    let missing = format!("{missing} missing");
    anstream::println!(
        "  {}",
        if report.missing == 0 { missing.green().to_string() } else { missing.red().to_string() }
    );
}

fn colour_of(status: &str) -> AnsiColors {
    match status {
        "SUCCEEDED" => AnsiColors::Green,
        "PENDING" | "RUNNING" | "PENDING_REDRIVE" => AnsiColors::Cyan,
        _ => AnsiColors::Red,
    }
}

/// The steps of one workflow as they go: a line each, live on a terminal, once they end elsewhere.
pub(crate) struct Steps {
    lines: MultiProgress,
    shown: Vec<ProgressBar>,
    told: usize,
    is_terminal: bool,
    start: Instant,
}

impl Steps {
    pub(crate) fn new(id: &str) -> Self {
        anstream::eprintln!("workflow {}", id.bold());
        Self {
            lines: MultiProgress::new(),
            shown: vec![],
            told: 0,
            is_terminal: stderr().is_terminal(),
            start: Instant::now(),
        }
    }

    pub(crate) fn update(&mut self, steps: &[Step]) {
        for (index, step) in steps.iter().enumerate() {
            let is_over = step.status != "RUNNING";
            if self.is_terminal {
                if index == self.shown.len() {
                    // A constant template, as in `progress`.
                    let style = ProgressStyle::with_template("  {spinner:.cyan} {msg}");
                    let bar = ProgressBar::new_spinner()
                        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                    bar.enable_steady_tick(Duration::from_millis(100));
                    self.shown.push(self.lines.add(bar));
                }
                let bar = &self.shown[index];
                if is_over && !bar.is_finished() {
                    bar.finish_with_message(describe(step));
                } else if !is_over {
                    bar.set_message(describe(step));
                }
            } else if is_over && index == self.told {
                eprintln!("  {}", describe(step));
                self.told += 1;
            }
        }
    }

    pub(crate) fn end(self, status: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        anstream::eprintln!("{} in {seconds:.2} s", status.color(colour_of(status)).bold());
    }
}

fn describe(step: &Step) -> String {
    let attempts = match step.attempts {
        0 | 1 => String::new(),
        attempts => format!(", {attempts} attempts"),
    };
    let error = step.error.as_ref().map(|error| format!(", {error}")).unwrap_or_default();
    format!("{} {}{attempts}{error}", step.name, step.status)
}
