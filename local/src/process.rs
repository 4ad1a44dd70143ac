//! The programs that get the suite ready: cargo, Python, pip.

use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io,
    process::{Output, Stdio},
};
use tokio::process::Command;

/// Runs `command` to its end. Dropped before that, it kills the program and all that the program has started.
pub(crate) async fn output(command: &mut Command) -> io::Result<Output> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
    let child = command.spawn()?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let output = child.wait_with_output().await;
    std::mem::forget(group);
    output
}

/// A process group that does not outlive this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // It fails only where all of them have ended already.
        let _ = self.0.map(|group| kill_process_group(group, Signal::KILL));
    }
}
