//! The command line: what it prints, how it ends, and that it leaves nothing running.

mod support;

use serde_json::json;
use std::{
    cell::RefCell,
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};
use support::{json, project, within};
use tempfile::TempDir;

/// `cargo local` with these arguments in `folder`. Its processes can be told by `marker`, a folder that is in the
/// `PATH` of each of them.
fn local(folder: &Path, marker: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    let path = std::env::var("PATH").expect("a PATH");
    command
        .args(arguments)
        .current_dir(folder)
        .env("PATH", format!("{path}:/{marker}"))
        .env("RUST_LOG", format!("info,{marker}=info"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The processes that have `marker` in their environment: the id and the command line of each.
fn processes(marker: &str) -> Vec<(String, String)> {
    let processes = fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let found = processes.filter(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(marker)
    });
    found
        .map(|process| {
            let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            (process.file_name().to_string_lossy().into_owned(), line)
        })
        // A process that has ended and is not yet waited for has no command line.
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// The command lines of the processes that have `marker` in their environment.
fn running(marker: &str) -> Vec<String> {
    processes(marker).into_iter().map(|(_, line)| line).collect()
}

/// Whether every process with `marker` ends at once; a busy machine takes a moment for one that was killed.
fn nothing_runs(marker: &str) {
    let end = Instant::now() + Duration::from_secs(2);
    while !running(marker).is_empty() {
        assert!(Instant::now() < end, "still running: {:?}", running(marker));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn error_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
    lines[0].to_owned()
}

/// A project of its own with this template, sharing our installation of moto.
fn scratch(template: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("template.yaml"), template).expect("written");
    fs::create_dir_all(folder.path().join("target")).expect("made");
    let installed = project().join("target/local");
    fs::create_dir_all(&installed).expect("made");
    symlink(installed.canonicalize().expect("a path"), folder.path().join("target/local")).expect("linked");
    folder
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = local(&project(), "marker-port", &["up", "--port", &port]).output().expect("runs");
    let error = error_line(&output);
    assert!(error.contains(&port) && error.contains("in use") && error.contains("--port"), "{error}");
}

#[test]
fn a_wrong_argument_is_told_for_what_it_is() {
    let error = |arguments: &[&str]| error_line(&local(&project(), "marker-wrong", arguments).output().expect("runs"));
    let high = error(&["up", "--port", "65534"]);
    assert!(high.contains("65534 is too high"), "{high}");
    for arguments in [["trigger", "--data", "@gone.json"].as_slice(), &["invoke", "Task1Function", "-e", "gone.json"]] {
        let gone = error(arguments);
        assert!(gone.contains("gone.json cannot be read") && !gone.contains("inside the project"), "{gone}");
    }
}

#[test]
fn a_template_error_is_one_line() {
    let folder = scratch(
        "Parameters: {Environment: {Type: String}}\nResources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: !Ref Nothing\n",
    );
    let error = error_line(&local(folder.path(), "marker-template", &["up", "--port", "0"]).output().expect("runs"));
    assert!(error.contains("template.yaml") && error.contains("!Ref Nothing"), "{error}");
    let nowhere = TempDir::new().expect("a folder");
    let error = error_line(&local(nowhere.path(), "marker-template", &["up"]).output().expect("runs"));
    assert!(error.contains("inside the project"), "{error}");
}

#[test]
fn a_missing_python_is_named() {
    let folder = scratch("Parameters: {Environment: {Type: String}}\nResources: {}\n");
    // With an installation of moto of its own to make.
    fs::remove_file(folder.path().join("target/local")).expect("removed");
    let output =
        local(folder.path(), "marker-python", &["up", "--port", "0"]).env("PATH", "/nowhere").output().expect("runs");
    let error = error_line(&output);
    assert!(error.contains("Python 3.10") && error.contains("python3") && error.contains("install it"), "{error}");
}

#[test]
fn a_function_that_dies_at_start_is_named() {
    let folder = scratch(
        "Parameters: {Environment: {Type: String}}\nResources:\n  Dying:\n    Type: AWS::Serverless::Function\n    Properties: {CodeUri: dying}\n",
    );
    let source = folder.path().join("dying/src");
    fs::create_dir_all(&source).expect("made");
    fs::write(folder.path().join("Cargo.toml"), "[workspace]\nmembers = [\"dying\"]\nresolver = \"3\"\n")
        .expect("written");
    fs::write(folder.path().join("dying/Cargo.toml"), "[package]\nname = \"dying\"\nedition = \"2024\"\n")
        .expect("written");
    let main = "fn main() { println!(\"the setting X is missing\"); std::process::exit(3) }";
    fs::write(source.join("main.rs"), main).expect("written");
    let output = local(folder.path(), "marker-dying", &["up", "--port", "0"]).output().expect("runs");
    let error = error_line(&output);
    assert!(error.contains("Dying") && error.contains("exit status: 3") && error.contains("setting X"), "{error}");
    nothing_runs("marker-dying");
}

#[test]
fn trigger_alone_runs_a_workflow_and_leaves_nothing_running() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let arguments = ["trigger", "--data", r#"{"key":"value"}"#, "--url", &format!("http://{free}")];
    let output = local(&project(), "marker-trigger", &arguments).output().expect("runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let workflow = json(printed.trim_end());
    assert_eq!(workflow["status"], "SUCCEEDED");
    assert_eq!(workflow["output"]["data"], json!({ "key": "value" }));
    for line in ["  Task1 SUCCEEDED", "  Task2 SUCCEEDED"] {
        assert!(told.lines().any(|told| told == line), "{told}");
    }
    assert!(!told.contains('\u{1b}'), "no colours but on a terminal");
    nothing_runs("marker-trigger");
}

#[test]
fn what_the_api_refuses_ends_with_its_reason() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let arguments = ["trigger", "--data", "key=value", "--url", &format!("http://{free}")];
    let error = error_line(&local(&project(), "marker-refused", &arguments).output().expect("runs"));
    assert!(error.contains("400") && error.contains("not JSON"), "{error}");
    nothing_runs("marker-refused");
}

#[test]
fn a_load_asks_first_whether_there_is_a_suite() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let arguments = ["load", "--seconds", "3600", "--url", &format!("http://{free}")];
    let error = error_line(&local(&project(), "marker-load", &arguments).output().expect("runs"));
    assert!(error.contains("cargo local up") && error.contains("--url"), "{error}");
}

#[test]
fn invoke_prints_the_functions_answer() {
    let event = "functions/task1/events/step.json";
    let answer = |function: &str, event: &str| {
        let output = local(&project(), "marker-invoke", &["invoke", function, "--event", event]).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        json(String::from_utf8_lossy(&output.stdout).trim_end())
    };
    let prepared = json!({
        "specversion": "1.0",
        "id": "019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d",
        "source": "/trigger-workflow",
        "type": "workflow.triggered",
        "time": "2025-11-23T12:47:32.976Z",
        "datacontenttype": "application/json",
        "data": { "key": "value" },
    });
    assert_eq!(answer("Task1Function", event), prepared);
    let passed_on = json(include_str!("../../functions/task2/events/step.json"))["input"].clone();
    assert_eq!(answer("Task2Function", "functions/task2/events/step.json"), passed_on);

    let output = local(&project(), "marker-invoke", &["invoke", "Task3", "--event", event]).output().expect("runs");
    let error = error_line(&output);
    assert!(error.contains("Task3") && error.contains("ApiFunction, Task1Function"), "{error}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("Building"), "told before the build");
}

fn send(signal: &str, process: &impl ToString) {
    let kill = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status();
    assert!(kill.expect("runs").success());
}

/// How `child` ended, which it must within some seconds.
async fn ended(child: &mut Child) -> ExitStatus {
    let child = RefCell::new(child);
    let status = || child.borrow_mut().try_wait().expect("a child of ours");
    within(Duration::from_secs(5), "it ends", async || status().is_some()).await;
    status().expect("ended")
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_for_standard_input() {
    for arguments in [["trigger", "--data", "-"].as_slice(), &["invoke", "Task1Function", "--event", "-"]] {
        let mut child = local(&project(), "marker-stdin", arguments).stdin(Stdio::piped()).spawn().expect("runs");
        // Time to get to the read; were it shorter, the signal would end it all the same.
        tokio::time::sleep(Duration::from_millis(300)).await;
        send("INT", &child.id());
        assert!(!ended(&mut child).await.success());
    }
}

#[tokio::test]
async fn an_interrupted_command_has_not_succeeded() {
    // Something that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = local(&project(), "marker-signal", &["trigger", "--url", &url]).spawn().expect("runs");
        let (_connection, _) = silent.accept().expect("a connection");
        send(signal, &child.id());
        let status = ended(&mut child).await;
        assert_eq!(status.code(), Some(code), "{signal}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_build_and_all_that_it_started() {
    let folder = scratch(
        "Parameters: {Environment: {Type: String}}\nResources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties: {CodeUri: f}\n",
    );
    // A compiler that never ends. Asked for its version by `cargo metadata` and `cargo build`, it is the real one.
    let rustc = folder.path().join("rustc");
    fs::write(&rustc, "#!/bin/sh\ncase \"$*\" in *--crate-name\\ f*) sleep 60;; *) exec rustc \"$@\";; esac\n")
        .expect("written");
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).expect("made executable");
    fs::create_dir_all(folder.path().join("f/src")).expect("made");
    fs::write(folder.path().join("Cargo.toml"), "[workspace]\nmembers = [\"f\"]\nresolver = \"3\"\n").expect("written");
    fs::write(folder.path().join("f/Cargo.toml"), "[package]\nname = \"f\"\nedition = \"2024\"\n").expect("written");
    fs::write(folder.path().join("f/src/main.rs"), "fn main() {}\n").expect("written");
    for signal in ["INT", "TERM"] {
        let marker = format!("marker-build-{signal}");
        let mut command = local(folder.path(), &marker, &["up", "--port", "0"]);
        let mut child = command.env("RUSTC", &rustc).spawn().expect("runs");
        let is_building = async || running(&marker).iter().any(|line| line.starts_with("sleep"));
        within(Duration::from_secs(20), "the build runs", is_building).await;
        send(signal, &child.id());
        assert!(ended(&mut child).await.success());
        within(Duration::from_secs(5), "every process has ended", async || running(&marker).is_empty()).await;
    }
}

/// A suite under `cargo local up`, and where its API is.
fn up(marker: &str, port: u16) -> (Child, String) {
    let mut child =
        local(&project(), marker, &["up", "--port", &port.to_string()]).stderr(Stdio::null()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = lines.by_ref().map(|line| line.expect("text")).find(|line| line.contains("curl")).expect("a curl line");
    let url =
        line.split_whitespace().find_map(|word| word.strip_suffix("/trigger-workflow")).expect("a URL").to_owned();
    // Read on, or the functions' logs would fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (child, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_ends_with_all_its_processes_however_it_is_ended() {
    for signal in ["INT", "TERM", "KILL"] {
        let marker = format!("marker-up-{signal}");
        let (mut child, url) = up(&marker, 0);
        let client = local::client::Client::new(&url).expect("a client");
        let id = client.trigger(r#"{"key":"value"}"#.to_owned()).await.expect("accepted");
        assert_eq!(client.follow(&id, |_| {}).await.expect("an end").status, "SUCCEEDED");
        assert!(running(&marker).len() >= 6, "the suite, moto, four functions: {:?}", running(&marker));
        send(signal, &child.id());
        let status = ended(&mut child).await;
        assert_eq!(status.success(), signal != "KILL", "{signal}: {status}");
        within(Duration::from_secs(5), "every process has ended", async || running(&marker).is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_does_not_outlive_moto() {
    let (mut child, _) = up("marker-moto", 0);
    // It does not end by being watched.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (moto, _) = processes("marker-moto").into_iter().find(|(_, line)| line.contains("moto")).expect("moto runs");
    send("KILL", &moto);
    assert_eq!(ended(&mut child).await.code(), Some(1));
    within(Duration::from_secs(5), "every process has ended", async || running("marker-moto").is_empty()).await;
}

/// A port that is free, and so are the two above.
fn three_ports() -> u16 {
    let is_free = |port: &u16| (0..3).all(|above| TcpListener::bind(("127.0.0.1", port + above)).is_ok());
    (20_000 + (std::process::id() % 10_000) as u16..60_000).find(is_free).expect("ports")
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_failed_tells_what_has_started_and_what_has_not() {
    let port = three_ports();
    let arguments = ["redrive-failed", "--port", &port.to_string()];
    let redrive = || local(&project(), "marker-redrive", &arguments).output().expect("runs");
    let error = error_line(&redrive());
    assert!(error.contains(&format!("127.0.0.1:{}", port + 1)) && error.contains("cargo local up"), "{error}");

    let (mut child, url) = up("marker-redrive", port);
    let told = |output: &Output| String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    let output = redrive();
    assert!(output.status.success());
    assert_eq!(told(&output), "OnFailureQueue is empty");

    let sqs = aws_sdk_sqs::Client::new(&local::client::aws(&format!("http://127.0.0.1:{}", port + 2)));
    let batch = json(include_str!("../../functions/trigger/events/on-failure.json"));
    let queue = format!("https://sqs.us-east-1.amazonaws.com/{}/OnFailureQueue", local::ACCOUNT);
    let send_message =
        async |body: &str| sqs.send_message().queue_url(&queue).message_body(body).send().await.expect("sent");
    let record = batch["Records"][0]["body"].as_str().expect("a record");
    send_message(record).await;
    let output = redrive();
    assert!(output.status.success());
    assert_eq!(told(&output), "1 started from OnFailureQueue, none left");
    let client = local::client::Client::new(&url).expect("a client");
    let workflow = client.follow("019ab0c1-5a70-7c3e-9a51-6d1c0b3f2e4d", |_| {}).await.expect("an end");
    assert_eq!(workflow.status, "SUCCEEDED");

    send_message("a stranger's").await;
    let output = redrive();
    assert_eq!(output.status.code(), Some(1));
    let expected = "0 started from OnFailureQueue\n1 failed again and stay there";
    assert!(told(&output).starts_with(expected), "{}", told(&output));
    // It cannot be seen for a while.
    let output = redrive();
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("1 were not tried: they failed a moment ago"), "{}", told(&output));

    // Told to stop, it leaves the mapping as it was.
    let batch_under_way = format!("http://127.0.0.1:{}", port + 1);
    let lambda = aws_sdk_lambda::Client::new(&local::client::aws(&batch_under_way));
    for _ in 0..200 {
        send_message("a stranger's").await;
    }
    let mut interrupted = local(&project(), "marker-redrive", &arguments).spawn().expect("runs");
    let state = async || {
        let mappings = lambda.list_event_source_mappings().send().await.expect("a list");
        mappings.event_source_mappings()[0].state().expect("a state").to_owned()
    };
    within(Duration::from_secs(5), "it is on", async || state().await == "Enabled").await;
    send("INT", &interrupted.id());
    assert_eq!(ended(&mut interrupted).await.code(), Some(1));
    assert_eq!(state().await, "Disabled");
    send("INT", &child.id());
    ended(&mut child).await;
}
