//! `cargo local bench`: that it measures what it says, not how fast this machine is.

mod support;

use local::{
    Error,
    bench::{self, Bench},
};
use std::cell::Cell;
use support::options;

fn bench(functions: &[&str]) -> Bench {
    let functions = functions.iter().map(ToString::to_string).collect();
    Bench { project: options().project, functions, starts: 3, calls: 5 }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_function_is_measured_beside_one_that_does_nothing() {
    let rounds = Cell::new(0);
    let report = bench::run(&bench(&[]), |round| rounds.set(round)).await.expect("a report");
    assert_eq!(rounds.get(), 3);
    let names: Vec<_> = report.functions.iter().map(|measured| measured.name.as_str()).collect();
    assert_eq!(names[0], "empty");
    for name in ["api", "task1", "task2", "trigger"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for measured in &report.functions {
        let cold = measured.cold_cpu;
        assert!(cold.lower <= cold.median && cold.median <= cold.upper && cold.lower > 0.0, "{measured:?}");
        assert!(measured.first_cpu.median < cold.median, "{measured:?}");
        assert!(measured.warm_cpu.median > 0.0 && measured.warm_p50.median <= measured.warm_p99.median, "{measured:?}");
        assert!(measured.warm_p50.median < measured.cold_wall.median, "{measured:?}");
        // A process, and not this one, which holds more.
        assert!((1.0..64.0).contains(&measured.peak_memory.median), "{measured:?}");
        assert!((0.1..10.0).contains(&measured.zip.median), "{measured:?}");
        assert_eq!(cold.of_floor.is_none(), measured.name == "empty", "{measured:?}");
    }
    // Both have an endpoint to reach over TLS; what has none takes a good deal less.
    let cpu = |name: &str| {
        let found = report.functions.iter().find(|measured| measured.name == name);
        found.expect("measured").cold_cpu.median
    };
    assert!(cpu("task1") < cpu("task2") && cpu("task1") < cpu("trigger"));
    let json = serde_json::to_value(&report).expect("JSON");
    assert!(json["functions"][1]["coldCpu"]["ofFloor"].as_f64().is_some_and(|ratio| ratio > 0.5), "{json}");
    let (plot, text) = (report.plot().expect("a plot"), report.text());
    for name in names {
        assert!(plot.contains(name) && text.contains(name), "{name}");
    }
}

#[tokio::test]
async fn a_function_that_is_not_there_is_named() {
    let error = bench::run(&bench(&["Task9Function"]), |_| {}).await.expect_err("an error");
    assert!(matches!(error, Error::UnknownFunction(ref name, _) if name == "Task9Function"), "{error}");
}
