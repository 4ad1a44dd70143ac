//! What a process has taken of the machine, as Linux tells it.

use crate::Error;
use std::{fs, io::ErrorKind, path::PathBuf, thread, time::Duration};

/// A process that runs.
pub(super) struct Process(PathBuf);

impl Process {
    pub(super) fn of(id: Option<u32>) -> Result<Self, Error> {
        let id = id.ok_or_else(|| Error::Bench("a function has ended before its time".to_owned()))?;
        Ok(Self(PathBuf::from(format!("/proc/{id}"))))
    }

    /// The CPU time of all threads, to the nanosecond
    /// (<https://docs.kernel.org/scheduler/sched-stats.html>, the first number).
    pub(super) fn cpu(&self) -> Result<Duration, Error> {
        let threads = self.0.join("task");
        let unreadable = |error| Error::Unreadable(threads.clone(), error);
        let mut nanos = 0;
        for thread in fs::read_dir(&threads).map_err(unreadable)? {
            let path = thread.map_err(unreadable)?.path().join("schedstat");
            let text = match fs::read_to_string(&path) {
                // The thread has ended since the folder was read.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                text => text.map_err(|error| Error::Unreadable(path.clone(), error))?,
            };
            nanos += number(&text).ok_or_else(|| Error::Bench(format!("{} has no number", path.display())))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// The most bytes that were resident at a time
    /// (<https://docs.kernel.org/filesystems/proc.html>, `VmHWM`).
    pub(super) fn peak_memory(&self) -> Result<u64, Error> {
        let path = self.0.join("status");
        let text = read(&path)?;
        let kibibytes = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(number);
        kibibytes
            .map(|kibibytes| kibibytes * 1_024)
            .ok_or_else(|| Error::Bench(format!("{} has no VmHWM", path.display())))
    }
}

/// The processor's name and the number of cores.
pub(super) fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{name}, {cores} cores")
}

fn read(path: &PathBuf) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::Unreadable(path.clone(), error))
}

/// The first word of `text`, which is a number.
fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
