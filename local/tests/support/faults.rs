//! Which calls to AWS go wrong, and how: decided by a seed, so that a run can be repeated.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Refused for its rate.
    Throttled,
    /// Answered with a server error.
    Broken,
    /// The connection ends before the call is carried out.
    DroppedBefore,
    /// The call is carried out, and the connection ends without an answer.
    DroppedAfter,
    /// The call is carried out after this time, whether its caller still waits or not.
    Delayed(Duration),
    /// Lambda delivers the event twice.
    Duplicated,
    /// The calling process is killed before the call is carried out.
    KilledBefore,
    /// The call is carried out, and the calling process killed before the answer.
    KilledAfter,
}

const COLUMNS: [&str; 8] = [
    "throttled",
    "5xx",
    "dropped before",
    "dropped after",
    "delayed",
    "delivered twice",
    "killed before",
    "killed after",
];

/// The faults of one run.
#[derive(Debug)]
pub(crate) struct Faults {
    seed: u64,
    percent: u64,
    /// How many processes were to be killed and were not there.
    misses: AtomicU32,
    /// Whether every call of Step Functions is refused: an outage.
    is_out: AtomicBool,
    /// How often each call was made, by its operation and subject.
    calls: Mutex<BTreeMap<(String, String), u32>>,
    /// How often each fault was injected, by its operation.
    injected: Mutex<BTreeMap<String, [u32; COLUMNS.len()]>>,
}

/// Whether an operation is of Lambda's, and not of Step Functions'.
pub(crate) fn is_lambdas(operation: &str) -> bool {
    matches!(operation, "invocations" | "DryRun")
}

impl Faults {
    /// `percent` of all calls go wrong, chosen by `seed`.
    pub(crate) fn new(seed: u64, percent: u64) -> Self {
        let (misses, is_out) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { seed, percent, misses, is_out, calls: Mutex::default(), injected: Mutex::default() }
    }

    /// Begins or ends an outage.
    pub(crate) fn set_out(&self, is_out: bool) {
        self.is_out.store(is_out, Ordering::Relaxed);
    }

    /// What happens to the next call of `operation` about `subject`. It depends on the seed, the two, and how often
    /// this call was made before. So the same requests have the same faults in every run, as far as each makes the
    /// same calls; searches of the state machine are about nothing, and go by their number alone.
    pub(crate) fn next(&self, operation: &str, subject: &str) -> Option<Fault> {
        let nth = {
            let mut calls = self.calls.lock().expect("not poisoned");
            let nth = calls.entry((operation.to_owned(), subject.to_owned())).or_default();
            *nth += 1;
            *nth
        };
        let fault = if self.is_out.load(Ordering::Relaxed) && !is_lambdas(operation) {
            Some(Fault::Broken)
        } else {
            self.decide(operation, subject, nth)
        };
        if let Some(fault) = fault {
            let mut injected = self.injected.lock().expect("not poisoned");
            injected.entry(operation.to_owned()).or_default()[fault.column()] += 1;
        }
        fault
    }

    fn decide(&self, operation: &str, subject: &str, nth: u32) -> Option<Fault> {
        let digest = |of: &str| Sha256::digest(format!("{}/{of}", self.seed));
        // One request in twenty cannot be started until its event has been given up: as often as the three tries of
        // an event call, at three attempts each. Nearly all the others come through before that.
        let is_sick = digest(&format!("sick/{subject}"))[0].is_multiple_of(20);
        if operation == "StartExecution" && is_sick && nth <= 9 && self.percent > 0 {
            return Some(Fault::Broken);
        }
        let digest = digest(&format!("{operation}/{subject}/{nth}"));
        let draw = |at: usize, below: u64| {
            let bytes = digest[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes) % below
        };
        if draw(0, 100) >= self.percent {
            return None;
        }
        // Longer than the 2.5 s that an attempt of a call may take, now and then.
        let delay = Duration::from_millis(if draw(16, 4) == 0 { 3_000 } else { 50 + draw(24, 250) });
        let mut kinds = vec![Fault::Throttled, Fault::Broken, Fault::DroppedBefore, Fault::Delayed(delay)];
        match operation {
            "invocations" => kinds.extend([
                Fault::DroppedAfter,
                Fault::Duplicated,
                Fault::Duplicated,
                Fault::KilledBefore,
                Fault::KilledAfter,
            ]),
            "StartExecution" => kinds.extend([Fault::DroppedAfter, Fault::KilledBefore, Fault::KilledAfter]),
            // They change nothing.
            _ => {}
        }
        let kind = draw(8, kinds.len() as u64);
        Some(kinds[usize::try_from(kind).expect("few")])
    }

    /// A process that was to be killed was not there.
    pub(crate) fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nearly all the processes that were to be killed were there.
    pub(crate) fn kills_are_real(&self) -> bool {
        let injected = self.injected.lock().expect("not poisoned");
        let kills: u32 = injected.values().map(|counts| counts[6] + counts[7]).sum();
        self.misses.load(Ordering::Relaxed) * 10 <= kills
    }

    /// How many faults there were.
    pub(crate) fn count(&self) -> u32 {
        self.injected.lock().expect("not poisoned").values().flatten().sum()
    }

    /// The kinds of faults that did not come up.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let injected = self.injected.lock().expect("not poisoned");
        let is_missing = |column: &usize| injected.values().all(|counts| counts[*column] == 0);
        (0..COLUMNS.len()).filter(is_missing).map(|column| COLUMNS[column]).collect()
    }
}

impl Fault {
    fn column(self) -> usize {
        match self {
            Self::Throttled => 0,
            Self::Broken => 1,
            Self::DroppedBefore => 2,
            Self::DroppedAfter => 3,
            Self::Delayed(_) => 4,
            Self::Duplicated => 5,
            Self::KilledBefore => 6,
            Self::KilledAfter => 7,
        }
    }
}

/// A table of what was injected.
impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:<18}", "")?;
        for column in COLUMNS {
            write!(formatter, "{column:>17}")?;
        }
        for (operation, counts) in self.injected.lock().expect("not poisoned").iter() {
            let operation = if operation == "invocations" { "Invoke" } else { operation };
            write!(formatter, "\n{operation:<18}")?;
            for count in counts {
                write!(formatter, "{count:>17}")?;
            }
        }
        Ok(())
    }
}
