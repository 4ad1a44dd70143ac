//! The README's third task: its diff, applied to a copy of the project.

mod support;

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};
use support::{json, project};

/// Copies what belongs to the project, and nothing that was built.
fn copy_to(folder: &Path) {
    let files = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(project())
        .output()
        .expect("git");
    for file in String::from_utf8(files.stdout).expect("text").split_terminator('\0') {
        let to = folder.join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(project().join(file), to).expect("copied");
    }
}

/// The first block of this kind below a heading of the README.
fn block(heading: &str, kind: &str) -> String {
    let readme = fs::read_to_string(project().join("README.md")).expect("the README");
    let (_, below) = readme.split_once(heading).expect("the heading");
    let (_, block) = below.split_once(&format!("```{kind}\n")).expect("a block");
    block.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_diff_of_the_readme_adds_a_third_task() {
    let scratch = tempfile::tempdir().expect("a folder");
    copy_to(scratch.path());
    let diff = scratch.path().join("task3.diff");
    fs::write(&diff, block("### Add a third task", "diff")).expect("written");
    let applied = Command::new("git").args(["apply", "task3.diff"]).current_dir(&scratch).output();
    let applied = applied.expect("git");
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));

    // The dependencies that are built, and the moto that is installed, serve the copy as well. What is the copy's own
    // gets another version: cargo tells the crates of two workspaces in one target folder apart by nothing else.
    let manifest = scratch.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    let own = format!(r#"version = "{}""#, env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&own), "{text}");
    fs::write(&manifest, text.replacen(&own, r#"version = "0.0.0-scratch""#, 1)).expect("written");
    let target = project().join("target").canonicalize().expect("a folder");
    fs::create_dir_all(target.join("local")).expect("made");
    fs::create_dir(scratch.path().join("target")).expect("made");
    symlink(target.join("local"), scratch.path().join("target/local")).expect("linked");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let trigger = |payload: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_local"))
            .args(["trigger", "--data", payload, "--url", &format!("http://{free}")])
            .current_dir(&scratch)
            .env("CARGO_TARGET_DIR", &target)
            .stdin(Stdio::null())
            .output()
            .expect("runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), json(String::from_utf8_lossy(&output.stdout).trim_end()), told)
    };
    let (code, workflow, told) = trigger(r#"{"key":"value"}"#);
    assert_eq!(code, Some(0), "{told}");
    // Those of the CloudEvents event that Task2 passes on.
    assert_eq!(workflow["output"], json(r#"{"fields":7}"#));
    assert!(told.lines().any(|line| line == "  Task3 SUCCEEDED"), "{told}");

    // While we are at it: an input schema, older than every other file, is built into Task1.
    let schema = scratch.path().join("functions/task1/input.schema.json");
    fs::write(&schema, r#"{"properties":{"key":{"type":"number"}}}"#).expect("written");
    let old = fs::File::options().write(true).open(&schema).expect("opened");
    old.set_modified(SystemTime::UNIX_EPOCH + Duration::from_hours(1)).expect("set");
    let (code, workflow, told) = trigger(r#"{"key":"hunter2"}"#);
    assert_eq!((code, &workflow["error"]), (Some(1), &json(r#""Prepare.InvalidPayload""#)), "{told}");
    let cause = workflow["cause"].as_str().expect("a cause");
    assert!(cause.contains("/key: ") && !cause.contains("hunter2") && !told.contains("hunter2"), "{cause} {told}");
    assert!(told.lines().any(|line| line.contains("Task1 FAILED") && !line.contains("attempts")), "{told}");
}
