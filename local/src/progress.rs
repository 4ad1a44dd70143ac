//! Telling a person what is going on: a spinner or a bar on a terminal, plain lines elsewhere, all on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    cell::RefCell,
    io::{IsTerminal, stderr},
    time::Duration,
};

/// Where the steps of a longer piece of work are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To a person at a terminal or reading a log.
    Shown,
    /// To nobody.
    Silent,
}

/// One step under way; ends when dropped.
#[derive(Debug)]
pub struct Step(Option<ProgressBar>);

impl Progress {
    /// Tells that `what` has begun.
    #[must_use]
    pub fn step(self, what: &str) -> Step {
        if self == Self::Silent {
            return Step(None);
        }
        if !stderr().is_terminal() {
            eprintln!("{what} …");
            return Step(None);
        }
        // The template is a constant, so it parses; were it wrong, the default style would serve.
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Step(Some(bar))
    }
}

impl Step {
    /// Replaces what the step says of itself.
    pub fn say(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.to_owned());
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A piece of work whose parts are counted: a bar on a terminal, a line for each tenth elsewhere. Ends when dropped.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    told: RefCell<String>,
}

impl Default for Bar {
    fn default() -> Self {
        // As above, a constant.
        let style = ProgressStyle::with_template("{bar:40.cyan} {pos} of {len} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = stderr().is_terminal().then(|| ProgressBar::new(0).with_style(style));
        Self { bar, told: RefCell::default() }
    }
}

impl Bar {
    /// Tells that so many parts, of so many, have come to be `what`.
    pub fn at(&self, done: u64, all: u64, what: &'static str) {
        let Some(bar) = &self.bar else {
            let tenth = format!("{what} {}", done * 10 / all.max(1));
            if *self.told.borrow() != tenth {
                eprintln!("{done} of {all} {what}");
                self.told.replace(tenth);
            }
            return;
        };
        bar.set_length(all);
        bar.set_message(what);
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
