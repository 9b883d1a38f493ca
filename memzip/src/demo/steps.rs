//! The steps of the demo. Each shows a progress bar while it runs and records its duration.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Traffic of a step on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Content of this many bytes.
    Content(u64),
    /// Requests for this many bytes without content, so a speed would be meaningless.
    Requests(u64),
    /// No traffic.
    None,
}

/// A finished step.
#[derive(Clone, Debug)]
pub(super) struct DemoStep {
    pub(super) name: &'static str,
    pub(super) traffic: Traffic,
    pub(super) time: Duration,
    pub(super) note: String,
}

/// The finished steps, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct DemoSteps(pub(super) Vec<DemoStep>);

impl DemoSteps {
    /// Runs one step and records it with a note made from its result.
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

/// Returns a progress bar, which draws only on a terminal.
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
