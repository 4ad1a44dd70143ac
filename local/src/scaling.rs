//! `cargo local scaling`: which of AWS's quotas a rate of requests meets first, hop by hop, and what a million workflows
//! cost. `docs/scaling.md` shows what this module makes, and the tests below hold it to that.

use crate::{
    Error,
    table::{Cell, figure, plain, table, time},
};
use owo_colors::{OwoColorize, Style};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use std::io;

/// The requests a second that the table tells of.
const RATES: [f64; 4] = [1.0, 100.0, 1_000.0, 10_000.0];

/// Where Step Functions takes more than elsewhere.
const LARGE_REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];

/// Where API Gateway takes less than elsewhere.
const SMALL_GATEWAY_REGIONS: [&str; 13] = [
    "af-south-1",
    "ap-south-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-7",
    "ca-west-1",
    "eu-central-2",
    "eu-south-1",
    "eu-south-2",
    "il-central-1",
    "me-central-1",
    "mx-central-1",
];

/// The default of the template's parameter of this name.
const TRIGGER_RATE: f64 = 150.0;

/// The default of the template's parameter of this name.
const READ_RATE: f64 = 10.0;

/// How much of an account's concurrency no function may reserve.
const UNRESERVED: f64 = 100.0;

/// The memory of each function.
const GIGABYTES: f64 = 128.0 / 1_024.0;

/// What the model takes for granted, and why.
struct Assumption {
    what: &'static str,
    value: f64,
    is_time: bool,
    why: &'static str,
}

const API: Assumption = seconds("api, one POST", 0.01, "one `Invoke` inside the region, which Lambda answers at once");
const TRIGGER: Assumption = seconds("trigger, one event", 0.04, "one `StartExecution` on a connection that is open");
const TASK1: Assumption = seconds("Task1", 0.002, "no call; a small payload at 1/14 of a core");
const TASK2: Assumption = seconds("Task2", 0.2, "one HTTPS request to somebody else's endpoint");
const HANG: Assumption = seconds("Task2, an endpoint that hangs", 20.0, "its limit in `functions/task2/src/sink.rs`");
const AWAY: Assumption = seconds("Task2, an endpoint that is away", 3_600.0, "about what its `Retry` adds up to");
const BATCH: Assumption = seconds("ten SQS messages", 0.1, "ten times `StartExecution`, side by side");
const TRANSITIONS: Assumption =
    number("state transitions", 3.0, "Task1, Task2 and the end; with 2, as AWS's words allow, $25.00 less");
const DESCRIBES: Assumption =
    number("DescribeExecution, GET ?wait=20", 4.0, "at 0, 0.1, 0.3 and 0.7 s, for a workflow of half a second");
const LOG_BYTES: Assumption =
    number("bytes of log, one invocation", 1_200.0, "Lambda's lines and one or two of the function's own, JSON");
const ACCESS_BYTES: Assumption = number("bytes of log, one HTTP request", 400.0, "one line of API Gateway's");
const TRACED: Assumption = number("part of requests with a trace", 0.05, "X-Ray's default, beside one a second");

const ASSUMPTIONS: [&Assumption; 12] = [
    &API,
    &TRIGGER,
    &TASK1,
    &TASK2,
    &HANG,
    &AWAY,
    &BATCH,
    &TRANSITIONS,
    &DESCRIBES,
    &LOG_BYTES,
    &ACCESS_BYTES,
    &TRACED,
];

const fn seconds(what: &'static str, value: f64, why: &'static str) -> Assumption {
    Assumption { what, value, is_time: true, why }
}

const fn number(what: &'static str, value: f64, why: &'static str) -> Assumption {
    Assumption { what, value, is_time: false, why }
}

/// List prices in us-east-1, November 2026, in dollars for a million.
mod price {
    /// Requests to an HTTP API.
    pub(super) const HTTP_API: f64 = 1.0;
    /// Requests to Lambda.
    pub(super) const LAMBDA: f64 = 0.2;
    /// GB-seconds of Lambda on x86-64.
    pub(super) const GB_SECONDS: f64 = 16.666_7;
    /// Requests to SQS.
    pub(super) const SQS: f64 = 0.4;
    /// State transitions of a STANDARD workflow.
    pub(super) const TRANSITIONS: f64 = 25.0;
    /// Kilobytes of log, on their way in.
    pub(super) const LOG_KILOBYTES: f64 = 0.5;
    /// Traces that X-Ray records.
    pub(super) const TRACES: f64 = 5.0;
}

/// Whose quota it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Gateway,
    Lambda,
    StepFunctions,
}

/// Which requests take of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taker {
    /// Every request, of a quota of AWS.
    Each,
    /// Every request, of a limit that the template sets.
    Template,
    /// Some requests, or all of them on a bad day.
    Some,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Second,
    AtOnce,
    TenSeconds,
}

/// A quota on the way of a request.
#[derive(Clone, Debug)]
struct Hop {
    service: Service,
    name: &'static str,
    quota: f64,
    per: Per,
    /// So many of those of a second, or so many seconds of one of those at once.
    takes: f64,
    taker: Taker,
    raise: &'static str,
}

impl Hop {
    /// The requests a second that take all of the quota.
    fn binds_at(&self) -> f64 {
        self.quota / self.takes
    }

    /// Its line of the table.
    fn row(&self) -> Vec<Cell> {
        let quota = match self.per {
            _ if self.quota.is_infinite() => "none".to_owned(),
            Per::Second => format!("{}/s", figure(self.quota)),
            Per::AtOnce => format!("{} at once", figure(self.quota)),
            Per::TenSeconds => format!("{} in 10 s", figure(self.quota)),
        };
        let takes = if self.per == Per::Second { figure(self.takes) } else { time(self.takes) };
        let binds =
            if self.quota.is_infinite() { "never".to_owned() } else { format!("{}/s", figure(self.binds_at())) };
        let used = RATES.map(|rate| part(rate * self.takes / self.quota));
        let texts = [self.name, &quota, &takes, &binds].map(plain);
        texts.into_iter().chain(used).chain([plain(self.raise)]).collect()
    }
}

/// What Step Functions takes a second: calls of `StartExecution`, state transitions, calls of `DescribeExecution`.
struct StepFunctions {
    starts: f64,
    transitions: f64,
    describes: f64,
}

/// An AWS account that has the quotas that AWS gives by default.
#[derive(Clone, Debug)]
pub struct Account {
    /// The region, as in `us-east-1`.
    pub region: String,
    /// How many Lambda environments run at once: 1,000, and as few as 10 in a new account.
    pub concurrency: u32,
}

impl Account {
    /// The hops, in the order in which a request comes to them; then those that only some requests come to.
    fn hops(&self) -> Vec<Hop> {
        let region = self.region.as_str();
        let all_apis = if SMALL_GATEWAY_REGIONS.contains(&region) { 2_500.0 } else { 10_000.0 };
        let StepFunctions { starts, transitions, describes } = self.step_functions();
        let concurrency = f64::from(self.concurrency);
        let hop = |service, name, quota, takes| {
            let (per, taker, raise) = (Per::Second, Taker::Each, "yes");
            Hop { service, name, quota, per, takes, taker, raise }
        };
        let gateway = |name, quota| hop(Service::Gateway, name, quota, 1.0);
        let lambda = |name, takes| Hop { per: Per::AtOnce, ..hop(Service::Lambda, name, concurrency, takes) };
        let step_functions = |name, quota, takes| hop(Service::StepFunctions, name, quota, takes);
        let some = |hop| Hop { taker: Taker::Some, ..hop };
        vec![
            gateway("API Gateway, all APIs", all_apis),
            Hop { taker: Taker::Template, raise: "`TriggerRate`", ..gateway("API Gateway, POST", TRIGGER_RATE) },
            lambda("api", API.value),
            Hop { raise: "", ..hop(Service::Lambda, "queue of events", f64::INFINITY, 1.0) },
            lambda("trigger", TRIGGER.value),
            step_functions("StartExecution", starts, 1.0),
            step_functions("state transitions", transitions, TRANSITIONS.value),
            lambda("Task1", TASK1.value),
            lambda("Task2", TASK2.value),
            lambda("all four functions", API.value + TRIGGER.value + TASK1.value + TASK2.value),
            // api, Task1 and Task2: events do not count.
            Hop { raise: "yes", ..hop(Service::Lambda, "synchronous invocations", 10.0 * concurrency, 3.0) },
            Hop { quota: 1_000.0, per: Per::TenSeconds, raise: "no", ..lambda("new environments, Task2", TASK2.value) },
            some(step_functions("DescribeExecution, POST with a key", describes, 1.0)),
            Hop { raise: "`ReadRate`", ..some(gateway("API Gateway, another route", READ_RATE)) },
            some(step_functions("DescribeExecution, GET ?wait=20", describes, DESCRIBES.value)),
            some(lambda("Task2, the endpoint hangs", HANG.value)),
            Hop {
                per: Per::AtOnce,
                ..some(step_functions("executions, the endpoint is away", 1_000_000.0, AWAY.value))
            },
        ]
    }

    fn step_functions(&self) -> StepFunctions {
        if LARGE_REGIONS.contains(&self.region.as_str()) {
            StepFunctions { starts: 300.0, transitions: 5_000.0, describes: 15.0 }
        } else {
            StepFunctions { starts: 150.0, transitions: 800.0, describes: 10.0 }
        }
    }

    /// The quota of AWS that binds first, of those that every request takes of.
    fn first(&self) -> Hop {
        let mut hops = self.hops();
        hops.retain(|hop| hop.taker == Taker::Each);
        hops.sort_by(|one, other| one.binds_at().total_cmp(&other.binds_at()));
        hops.remove(0)
    }

    /// All that the command prints, in colours.
    #[must_use]
    pub fn report(&self) -> String {
        let title = |text: &str| format!("{}\n\n", text.bold());
        let first = self.first();
        title(&format!("Quotas in {}, and the part of each that is used at so many requests a second", self.region))
            + &self.quotas()
            + &format!("\nBinds first: {}, at {} a second. {}\n\n", first.name, figure(first.binds_at()), self.advice())
            + &title("What that takes for granted")
            + &assumptions()
            + "\n"
            + &title("Dollars for a million workflows")
            + &costs()
    }

    /// With which reserved concurrency the trigger stays below what `StartExecution` takes.
    fn advice(&self) -> String {
        let starts = figure(self.step_functions().starts);
        let concurrency = (self.step_functions().starts * TRIGGER.value).floor();
        if f64::from(self.concurrency) < concurrency + UNRESERVED {
            return format!("TriggerConcurrency stays empty: {UNRESERVED} environments have to be left to the others.");
        }
        format!("TriggerConcurrency={concurrency} starts {starts} a second at most, and the rest waits.")
    }

    /// The hops as a table.
    fn quotas(&self) -> String {
        let rates = RATES.map(|rate| format!("{}/s", figure(rate)));
        let mut header = vec!["hop", "quota", "one takes", "binds at"];
        header.extend(rates.iter().map(String::as_str));
        header.push("can be raised");
        table(&header, true, self.hops().iter().map(Hop::row))
    }

    /// The hops as a plot: how much of each quota is used by how many requests a second.
    ///
    /// # Errors
    /// The plot cannot be drawn.
    pub fn plot(&self) -> Result<String, Error> {
        let mut svg = String::new();
        self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(svg)
    }

    fn draw<D: DrawingBackend>(&self, area: &DrawingArea<D, Shift>) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
        area.fill(&WHITE)?;
        let [rates, parts] = [1.0..10_000.0, 1e-4..1e4];
        let mut chart = ChartBuilder::on(area)
            .caption(
                format!(
                    "Part of each quota that is used, {} (red: binds first; dashed: not every request)",
                    self.region
                ),
                FONT.into_font().resize(16.0),
            )
            .margin(20)
            .margin_right(LABELS)
            .x_label_area_size(50)
            .y_label_area_size(70)
            .build_cartesian_2d(
                rates.log_scale().with_key_points(vec![1.0, 10.0, 100.0, 1_000.0, 10_000.0]),
                parts.log_scale().with_key_points(vec![1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 1e4]),
            )?;
        // What is above 1 is refused, retried or waits.
        let above = Rectangle::new([(1.0, 1.0), (10_000.0, 1e4)], RED.mix(0.05).filled());
        chart.draw_series([above])?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .label_style(FONT)
            .x_desc("requests a second")
            .y_desc("part of the quota that is used (1: all of it)")
            .x_label_formatter(&|rate| figure(*rate))
            .y_label_formatter(&|part| figure(*part))
            .draw()?;
        chart.draw_series(LineSeries::new([(1.0, 1.0), (10_000.0, 1.0)], BLACK.stroke_width(2)))?;

        let mut hops = self.hops();
        hops.retain(|hop| hop.quota.is_finite());
        hops.sort_by(|one, other| one.binds_at().total_cmp(&other.binds_at()));
        let first = self.first().name;
        let mut lowest = 0;
        for hop in &hops {
            let binds = hop.binds_at();
            let is_first = hop.name == first;
            let colour = if is_first { RED } else { hop.service.colour() };
            let from = (binds * 1e-4).max(1.0);
            let line = [(from, from / binds), (10_000.0, 10_000.0 / binds)];
            let style = colour.stroke_width(if is_first { 4 } else { 2 });
            if hop.taker == Taker::Some {
                chart.draw_series(DashedLineSeries::new(line, 8, 6, style))?;
            } else {
                chart.draw_series(LineSeries::new(line, style))?;
            }
            if (1.0..=10_000.0).contains(&binds) {
                chart.draw_series([Circle::new((binds, 1.0), 4, colour.filled())])?;
            }
            // Each label beside the end of its line, or as far below as it takes to be read.
            let (x, y) = chart.backend_coord(&line[1]);
            let at = y.max(lowest + 17);
            lowest = at;
            area.draw(&PathElement::new([(x, y), (x + 14, at)], colour))?;
            let label = format!("{}: {}/s", hop.name, figure(binds));
            let style = FONT.into_text_style(area).color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw_text(&label, &style, (x + 18, at))?;
        }
        area.present()
    }
}

impl Service {
    fn colour(self) -> RGBColor {
        match self {
            Self::Gateway => RGBColor(96, 64, 176),
            Self::Lambda => RGBColor(176, 88, 0),
            Self::StepFunctions => RGBColor(0, 112, 136),
        }
    }
}

/// The plot's size in pixels.
const SIZE: (u32, u32) = (1_040, 660);

/// The width that the names beside the lines take.
const LABELS: u32 = 250;

const FONT: (&str, u32) = ("sans-serif", 13);

const RED: RGBColor = RGBColor(200, 0, 32);

/// What the model takes for granted, as a table.
fn assumptions() -> String {
    let rows = ASSUMPTIONS.iter().map(|Assumption { what, value, is_time, why }| {
        let value = if *is_time { time(*value) } else { figure(*value) };
        vec![plain(what), plain(&value), plain(why)]
    });
    table(&["", "", "because"], true, rows)
}

/// What a million workflows cost in three designs, as a table. What all three have alike comes first.
fn costs() -> String {
    // So many millions of invocations, each for so many seconds.
    let lambda = |millions: f64, seconds: f64| millions * (price::LAMBDA + seconds * GIGABYTES * price::GB_SECONDS);
    let logs = |invocations: f64| (ACCESS_BYTES.value + invocations * LOG_BYTES.value) / 1_000.0 * price::LOG_KILOBYTES;
    let steps = lambda(1.0, TASK1.value) + lambda(1.0, TASK2.value);
    let rows = [
        ("HTTP API", [price::HTTP_API; 3]),
        ("state transitions", [TRANSITIONS.value * price::TRANSITIONS; 3]),
        ("Task1, Task2", [steps; 3]),
        ("X-Ray", [TRACED.value * price::TRACES; 3]),
        ("logs", [logs(4.0), logs(2.1), logs(2.0)]),
        ("api", [lambda(1.0, API.value), 0.0, 0.0]),
        ("trigger", [lambda(1.0, TRIGGER.value), lambda(0.1, BATCH.value), 0.0]),
        // Each message is sent by itself, received and deleted with nine others.
        ("SQS", [0.0, 1.2 * price::SQS, 0.0]),
    ];
    let total = [0, 1, 2].map(|design| rows.iter().map(|(_, costs)| costs[design]).sum());
    let rows = rows.into_iter().chain([("in all", total)]).map(|(what, costs)| {
        let costs =
            costs.map(|dollars: f64| plain(&if dollars > 0.0 { format!("{dollars:.2}") } else { String::new() }));
        [plain(what)].into_iter().chain(costs).collect()
    });
    table(&["", "this suite", "API Gateway, SQS, trigger", "API Gateway alone"], false, rows)
}

/// The part of a quota that is used: red where that is all of it, yellow from a half on.
fn part(part: f64) -> Cell {
    let style = match part {
        1.0.. => Style::new().red().bold(),
        0.5.. => Style::new().yellow(),
        _ => Style::new().dimmed(),
    };
    let text = match part {
        0.0 => String::new(),
        ..0.01 => "< 0.01".to_owned(),
        ..1.0 => format!("{part:.2}"),
        _ => figure(part),
    };
    (text, style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_yaml_ng::Value;
    use std::fs;

    fn account(region: &str, concurrency: u32) -> Account {
        Account { region: region.to_owned(), concurrency }
    }

    fn file(path: &str) -> String {
        let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn plain_text(coloured: &str) -> String {
        anstream::adapter::strip_str(coloured).to_string()
    }

    #[test]
    fn the_documentation_shows_what_the_command_makes() {
        let documentation = file("docs/scaling.md");
        let tables = ["us-east-1", "eu-central-1"].map(|region| account(region, 1_000).quotas());
        for table in tables.into_iter().chain([assumptions(), costs()]) {
            let table = plain_text(&table);
            assert!(documentation.contains(&table), "docs/scaling.md should have this table:\n{table}");
        }
        let plot = account("us-east-1", 1_000).plot().expect("a plot");
        assert!(file("docs/scaling.svg") == plot, "cargo local scaling --svg docs/scaling.svg");
    }

    #[test]
    fn the_template_is_the_one_that_the_model_knows() {
        let template: Value = serde_yaml_ng::from_str(&file("template.yaml")).expect("YAML");
        let default = |parameter: &str| template["Parameters"][parameter]["Default"].as_f64();
        assert_eq!((default("TriggerRate"), default("ReadRate")), (Some(TRIGGER_RATE), Some(READ_RATE)));
        let memory = template["Globals"]["Function"]["MemorySize"].as_f64();
        assert_eq!(memory.map(|megabytes| megabytes / 1_024.0), Some(GIGABYTES));
    }

    #[test]
    fn what_binds_first_depends_on_the_region_and_the_account() {
        for (region, concurrency, name, rate) in [
            ("us-east-1", 1_000, "StartExecution", "300"),
            ("eu-west-1", 1_000, "StartExecution", "300"),
            ("eu-central-1", 1_000, "StartExecution", "150"),
            ("il-central-1", 1_000, "StartExecution", "150"),
            ("us-east-1", 10, "synchronous invocations", "33"),
        ] {
            let first = account(region, concurrency).first();
            assert_eq!((first.name, figure(first.binds_at()).as_str()), (name, rate), "{region}, {concurrency}");
        }
    }

    #[test]
    fn the_template_lets_in_no_more_than_step_functions_starts_anywhere() {
        for region in LARGE_REGIONS.into_iter().chain(SMALL_GATEWAY_REGIONS).chain(["eu-central-1"]) {
            let quotas = account(region, 1_000).step_functions();
            assert!(TRIGGER_RATE <= quotas.starts && READ_RATE <= quotas.describes, "{region}");
            // The states are not what holds a workflow up.
            assert!(quotas.starts * TRANSITIONS.value <= quotas.transitions, "{region}");
        }
    }

    #[test]
    fn the_trigger_is_held_where_concurrency_can_be_reserved() {
        assert!(account("us-east-1", 1_000).advice().starts_with("TriggerConcurrency=12 starts 300 a second"));
        assert!(account("ap-south-1", 1_000).advice().starts_with("TriggerConcurrency=6 starts 150 a second"));
        assert!(account("us-east-1", 10).advice().starts_with("TriggerConcurrency stays empty"));
    }

    #[test]
    fn a_report_for_a_file_is_plain_and_has_the_parts_in_red_on_a_terminal() {
        let report = account("us-east-1", 1_000).report();
        assert!(report.contains("\u{1b}["));
        let report = plain_text(&report);
        assert!(!report.contains('\u{1b}'));
        assert!(report.contains("| StartExecution ") && report.contains("| in all "), "{report}");
    }

    #[test]
    fn a_part_is_short_too() {
        assert_eq!([0.001, 0.333, 6.67, 667.0].map(|used| part(used).0), ["< 0.01", "0.33", "6.7", "667"]);
    }
}
