//! `memzip compact`: has a running server move scattered objects together, and says what came of it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::control::client;
use crate::control::stat_json::CompactReport;
use crate::output::Format;
use crate::sizes::{grouped, human};

/// Asks and prints.
pub(crate) fn run(control: &Path, format: Format) -> Result<String> {
    let report = client::compact(control)?;
    match format {
        Format::Json => Ok(serde_json::to_string_pretty(&report).context("cannot write JSON")? + "\n"),
        Format::Table => Ok(sentences(&report)),
    }
}

fn sentences(report: &CompactReport) -> String {
    let CompactReport { objects_moved, bytes_moved, frames_freed, zspages_freed, .. } = report;
    let time = report.duration_us as f64 / 1000.0;
    let mut text = format!(
        "moved {} objects ({}) in {time:.1} ms\nfreed {} frames ({}) and {} zspages\n\
         moved {} frames together\nmemory for compressed pages: {} -> {}\nmemory held in all: {} -> {}\n",
        grouped(*objects_moved),
        human(*bytes_moved),
        grouped(*frames_freed),
        human(frames_freed * frames::FRAME_SIZE as u64),
        grouped(*zspages_freed),
        grouped(report.frames_moved),
        human(report.mem_used_before),
        human(report.mem_used_after),
        human(report.mem_total_before),
        human(report.mem_total_after),
    );
    if report.skipped > 0 {
        text += &format!("{} times a size class was left as its zspages were in use: ask again\n", report.skipped);
    }
    if report.outcome != "done" {
        text += &format!("it ended early: {}\n", report.outcome);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_end_and_busy_zspages_are_mentioned_only_if_there_were_any() {
        let mut report = CompactReport {
            objects_moved: 12_345,
            bytes_moved: 20 << 20,
            frames_freed: 256,
            outcome: "done".into(),
            duration_us: 12_300,
            ..CompactReport::default()
        };
        let text = sentences(&report);
        assert!(
            text.starts_with("moved 12,345 objects (20M) in 12.3 ms\nfreed 256 frames (1M) and 0 zspages\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 5, "{text}");
        report.skipped = 2;
        report.outcome = "out of time".into();
        let text = sentences(&report);
        assert!(text.contains("2 times") && text.contains("out of time"), "{text}");
    }
}
