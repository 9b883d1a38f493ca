//! The report of the demo.

use std::fmt;
use std::time::Duration;

use super::steps::{DemoStep, DemoSteps, Traffic};
use crate::columns::{Align, Columns};
use crate::control::stat_json::StatReport;
use crate::sizes::human;

/// Statistics at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) name: &'static str,
    pub(super) stat: StatReport,
}

/// The results of the demo; it prints as the report.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The loaded files, in one line.
    pub(super) files: String,
    /// The disk, in one line.
    pub(super) disk: String,
    pub(super) steps: DemoSteps,
    pub(super) start: Snapshot,
    pub(super) loaded: Snapshot,
    pub(super) deleted: Snapshot,
    pub(super) compacted: Snapshot,
    pub(super) emptied: Snapshot,
}

impl Report {
    fn snapshots(&self) -> [&Snapshot; 5] {
        [&self.start, &self.loaded, &self.deleted, &self.compacted, &self.emptied]
    }

    fn steps(&self) -> Columns {
        let mut table =
            Columns::new(&[Align::Left, Align::Right, Align::Right, Align::Left]).indented(2);
        table.row(["", "time", "speed", ""]);
        for step in &self.steps.0 {
            table.row([step.name, &seconds(step.time), &speed(step), &step.note]);
        }
        table
    }

    fn memory(&self) -> Columns {
        use Align::{Left, Right};
        let mut table = Columns::new(&[Left, Right, Right, Right, Right, Right]).indented(2);
        table.row([""].into_iter().chain(self.snapshots().map(|snapshot| snapshot.name)));
        let mut row = |name: &str, cell: &dyn Fn(&StatReport) -> String| {
            table.row(
                std::iter::once(name.to_owned())
                    .chain(self.snapshots().map(|snapshot| cell(&snapshot.stat))),
            );
        };
        row("content of the pages", &|stat| human(stat.orig_data_size));
        row("compressed to", &|stat| human(stat.compr_data_size));
        row("ratio", &|stat| ratio(stat.orig_data_size, stat.compr_data_size));
        row("4K frames that hold it", &|stat| human(stat.mem_used_total));
        row("density: stored bytes / frames", &|stat| {
            percent(stat.memory.live, stat.mem_used_total)
        });
        row("the whole store (mem_total)", &|stat| human(stat.mem_total));
        row("  stored bytes", &|stat| human(stat.memory.live));
        row("  rounding to size classes", &|stat| human(stat.memory.rounding));
        row("  holes of deleted objects", &|stat| human(stat.memory.holes));
        row("  free frames for the next writes", &|stat| human(stat.memory.free_frames));
        row("  book-keeping", &|stat| human(bookkeeping(stat)));
        row("this process, client included (RSS)", &|stat| stat.rss.map_or("?".to_owned(), human));
        table
    }

    fn verdict(&self) -> String {
        let frames = |snapshot: &Snapshot| human(snapshot.stat.mem_used_total);
        let mut text = format!(
            "  Every byte matched, before and after. Deleting half of the pages and compacting reduced the frames\n  \
             in use from {} to {}. Memory returns to the operating system in whole blocks of 2M: {} after compaction,\n  \
             {} after the rest was deleted.\n",
            frames(&self.loaded),
            frames(&self.compacted),
            self.released_since_load(&self.compacted),
            self.released_since_load(&self.emptied),
        );
        if let (Some(start), Some(end)) = (self.start.stat.rss, self.emptied.stat.rss) {
            text += &format!(
                "  This process holds {} now; it held {} before the disk was filled.\n",
                human(end),
                human(start)
            );
        }
        text + "\n  To serve a disk: memzip serve --size 4G\n"
    }

    /// Returns the memory of the process released since the disk was full, as the OS counts it.
    fn released_since_load(&self, snapshot: &Snapshot) -> String {
        match (self.loaded.stat.rss, snapshot.stat.rss) {
            (Some(full), Some(now)) => human(full.saturating_sub(now)),
            _ => "unknown".to_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memzip demo: real files on a compressed disk\n")?;
        writeln!(f, "  files  {}", self.files)?;
        writeln!(f, "  disk   {}\n", self.disk)?;
        writeln!(f, "{}", self.steps())?;
        writeln!(f, "{}", self.memory())?;
        writeln!(f, "  Free blocks in the store's memory, by size from 4K to 4M (buddyinfo)")?;
        for snapshot in self.snapshots() {
            writeln!(f, "  {}:", snapshot.name)?;
            for line in snapshot.stat.buddyinfo.lines() {
                writeln!(f, "    {}", line.trim_end())?;
            }
        }
        write!(f, "\n{}", self.verdict())
    }
}

fn bookkeeping(stat: &StatReport) -> u64 {
    let memory = &stat.memory;
    memory.descriptors + memory.handles + memory.zspages + memory.slots
}

/// Formats a duration as `1.52 s` or `86.2 ms`.
pub(super) fn seconds(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

fn speed(step: &DemoStep) -> String {
    match step.traffic {
        Traffic::Content(bytes) if !step.time.is_zero() => {
            format!("{:.0} MiB/s", bytes as f64 / step.time.as_secs_f64() / f64::from(1 << 20))
        }
        _ => String::new(),
    }
}

fn ratio(whole: u64, part: u64) -> String {
    if part == 0 { "-".to_owned() } else { format!("{:.2} : 1", whole as f64 / part as f64) }
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stat_json::memory_parts;
    use zram::MemoryBreakdown;

    fn snapshot(name: &'static str, live: u64, frames: u64, rss: u64) -> Snapshot {
        let memory = MemoryBreakdown {
            live,
            holes: frames - live,
            handles: 1 << 20,
            ..MemoryBreakdown::default()
        };
        let stat = StatReport {
            orig_data_size: live * 3,
            compr_data_size: live,
            mem_used_total: frames,
            mem_total: memory_parts(&memory).iter().map(|(_, bytes, _)| bytes).sum(),
            rss: Some(rss),
            memory,
            buddyinfo: "Node 0, zone   memzip      0 \n".into(),
            ..StatReport::default()
        };
        Snapshot { name, stat }
    }

    #[test]
    fn the_report_has_aligned_columns_and_a_verdict() {
        let report = Report {
            files: "2 files".into(),
            disk: "a disk".into(),
            steps: DemoSteps(vec![DemoStep {
                name: "write",
                traffic: Traffic::Content(3 << 20),
                time: Duration::from_millis(1500),
                note: "768 pages".into(),
            }]),
            start: snapshot("at the start", 0, 0, 10 << 20),
            loaded: snapshot("loaded", 90 << 20, 100 << 20, 120 << 20),
            deleted: snapshot("half deleted", 45 << 20, 80 << 20, 121 << 20),
            compacted: snapshot("compacted", 45 << 20, 50 << 20, 70 << 20),
            emptied: snapshot("emptied", 0, 0, 12 << 20),
        };
        let text = report.to_string();
        assert!(text.contains("  write  1.50 s  2 MiB/s  768 pages\n"), "{text}");
        let density =
            text.lines().find(|line| line.contains("density")).expect("a line about density");
        let cells: Vec<&str> =
            density.rsplit("  ").filter(|cell| !cell.is_empty()).take(5).map(str::trim).collect();
        assert_eq!(cells, ["-", "90.0 %", "56.2 %", "90.0 %", "-"], "{density:?}");
        assert!(text.contains("from 100M to 50M"), "{text}");
        assert!(
            text.contains(
                "blocks of 2M: 50M after compaction,\n  108M after the rest was deleted.\n"
            ),
            "{text}"
        );
        assert!(text.lines().all(|line| line.trim_end() == line && line.len() <= 120), "{text}");
        assert!(text.is_ascii());
    }
}
