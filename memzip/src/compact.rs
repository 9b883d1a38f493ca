//! `memzip compact`: asks a running server to compact and prints the result.

use anyhow::Result;
use frames::FrameCount;

use crate::cli::Compact;
use crate::control::change_json::{CompactReport, PartReport};
use crate::control::client;
use crate::sizes::{grouped, human};

/// Asks the server to compact; returns the report as text to print.
pub(crate) fn run(args: &Compact) -> Result<String> {
    let report = client::compact(&args.control_args.socket()?, args.request())?;
    args.control_args.format.render(&report, sentences)
}

fn sentences(report: &CompactReport) -> String {
    let CompactReport { object_work: objects, frame_work: frames, .. } = report;
    let mut text = String::new();
    // What each requested kind did.
    if let Some(part) = &report.objects {
        text += &format!(
            "objects: moved {} ({}) in {}; freed {} frames ({}) and {} zspages\n",
            grouped(objects.objects_moved),
            human(objects.bytes_moved),
            time(part),
            grouped(objects.frames_freed),
            human(FrameCount(objects.frames_freed).bytes()),
            grouped(objects.zspages_freed),
        );
    }
    if let Some(part) = &report.frames {
        let [moved, scanned] = [frames.frames_moved, frames.scanned].map(grouped);
        text += &format!("frames: moved {moved} of {scanned} in {}\n", time(part));
    }
    // The effect on memory.
    text += &format!(
        "memory for compressed pages: {} -> {}\nmemory held in all: {} -> {}\n",
        human(report.mem_used_before),
        human(report.mem_used_after),
        human(report.mem_total_before),
        human(report.mem_total_after),
    );
    // What a second compaction may still do.
    for (count, what) in [
        (objects.skipped, "zspages were passed over, most of them in use"),
        (frames.frames_busy, "frames were passed over because they were in use"),
    ] {
        if count > 0 {
            text += &format!("{} {what}: try again\n", grouped(count));
        }
    }
    for (name, part) in [("objects", &report.objects), ("frames", &report.frames)] {
        if let Some(part) = part.as_ref().filter(|part| part.outcome != "done") {
            text += &format!("moving {name} ended early: {}\n", part.outcome);
        }
    }
    text
}

fn time(part: &PartReport) -> String {
    format!("{:.1} ms", part.duration_us as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zram::{Compaction, FrameCompaction};

    fn report() -> CompactReport {
        CompactReport {
            objects: Some(PartReport { outcome: "done".into(), duration_us: 12_300 }),
            frames: Some(PartReport { outcome: "done".into(), duration_us: 4_560 }),
            object_work: Compaction {
                objects_moved: 12_345,
                bytes_moved: 20 << 20,
                frames_freed: 256,
                ..Compaction::default()
            },
            frame_work: FrameCompaction {
                frames_moved: 1000,
                scanned: 4000,
                ..FrameCompaction::default()
            },
            ..CompactReport::default()
        }
    }

    #[test]
    fn each_requested_part_has_a_line() {
        let mut report = report();
        let text = sentences(&report);
        assert!(
            text.starts_with(
                "objects: moved 12,345 (20M) in 12.3 ms; freed 256 frames (1M) and 0 zspages\n\
                 frames: moved 1,000 of 4,000 in 4.6 ms\n"
            ),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4, "{text}");
        report.objects = None;
        assert!(sentences(&report).starts_with("frames: "), "{}", sentences(&report));
        report.frames = None;
        assert!(sentences(&report).starts_with("memory "), "{}", sentences(&report));
    }

    #[test]
    fn early_end_and_busy_memory_are_mentioned_if_any() {
        let mut report = report();
        report.object_work.skipped = 2;
        report.frame_work.frames_busy = 3;
        report.frames = Some(PartReport { outcome: "out of time".into(), duration_us: 1 });
        let text = sentences(&report);
        assert!(text.contains("2 zspages were") && text.contains("3 frames were"), "{text}");
        assert!(text.ends_with("moving frames ended early: out of time\n"), "{text}");
        assert!(!text.contains("moving objects ended early"), "{text}");
    }
}
