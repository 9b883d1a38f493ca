//! The demo's steps: each shows a progress bar while it runs and is remembered with the time it took.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// What a step moves over the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// This many bytes of content.
    Content(u64),
    /// Requests about this many bytes, without content: a speed would mean nothing.
    Requests(u64),
    /// Nothing.
    None,
}

/// One thing the demo did.
#[derive(Clone, Debug)]
pub(super) struct DemoStep {
    pub(super) name: &'static str,
    pub(super) traffic: Traffic,
    pub(super) time: Duration,
    pub(super) note: String,
}

/// Everything done so far, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct DemoSteps(pub(super) Vec<DemoStep>);

impl DemoSteps {
    /// Does one step. Its note is made from what came of it.
    pub(super) fn run<T>(
        &mut self,
        name: &'static str,
        traffic: Traffic,
        action: impl FnOnce(&ProgressBar) -> Result<T>,
        note: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        let bar = bar(name, traffic);
        let start = Instant::now();
        let result = action(&bar);
        let time = start.elapsed();
        bar.finish_and_clear();
        let outcome = result?;
        self.0.push(DemoStep { name, traffic, time, note: note(&outcome) });
        Ok(outcome)
    }
}

/// On a terminal; elsewhere nothing is drawn.
fn bar(name: &'static str, traffic: Traffic) -> ProgressBar {
    let bar = match traffic {
        Traffic::Content(bytes) | Traffic::Requests(bytes) => ProgressBar::new(bytes),
        Traffic::None => ProgressBar::hidden(),
    };
    let style =
        ProgressStyle::with_template("  {msg:<24} [{bar:32}] {binary_bytes}/{binary_total_bytes}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(name);
    bar
}
