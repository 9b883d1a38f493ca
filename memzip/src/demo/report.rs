//! The steps of the demo, each with a progress bar and its duration, and the report about them.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::columns::{Align, Columns};
use crate::control::stat_json::StatReport;
use crate::sizes::human;

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
    /// At the start, loaded, half deleted, compacted, emptied.
    pub(super) snapshots: [Snapshot; 5],
}

impl Report {
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
        table.row([""].into_iter().chain(self.snapshots.each_ref().map(|snapshot| snapshot.name)));
        let mut row = |name: &str, cell: &dyn Fn(&StatReport) -> String| {
            let cells = self.snapshots.each_ref().map(|snapshot| cell(&snapshot.stat));
            table.row([name.to_owned()].into_iter().chain(cells));
        };
        row("content of the pages", &|stat| human(stat.mm.orig_data_size));
        row("compressed to", &|stat| human(stat.mm.compr_data_size));
        row("ratio", &|stat| ratio(stat.mm.orig_data_size, stat.mm.compr_data_size));
        row("4K frames that hold it", &|stat| human(stat.mm.mem_used_total));
        row("density: stored bytes / frames", &|stat| {
            percent(stat.memory.live, stat.mm.mem_used_total)
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
        let [start, loaded, _, compacted, emptied] = self.snapshots.each_ref().map(|at| &at.stat);
        let frames = [loaded, compacted].map(|stat| human(stat.mm.mem_used_total));
        // Memory of the process released since the disk was full, as the OS counts it.
        let released = [compacted, emptied].map(|stat| match (loaded.rss, stat.rss) {
            (Some(full), Some(now)) => human(full.saturating_sub(now)),
            _ => "unknown".to_owned(),
        });
        let mut text = format!(
            "  Every byte matched, before and after. Deleting half of the pages and compacting reduced the frames\n  \
             in use from {} to {}. Memory returns to the operating system in whole blocks of 2M: {} after compaction,\n  \
             {} after the rest was deleted.\n",
            frames[0], frames[1], released[0], released[1],
        );
        if let (Some(start), Some(end)) = (start.rss, emptied.rss) {
            let [start, end] = [start, end].map(human);
            text += &format!(
                "  This process holds {end} now; it held {start} before the disk was filled.\n"
            );
        }
        text + "\n  To serve a disk: memzip serve --size 4G\n"
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
        for snapshot in &self.snapshots {
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
    use zram::{MemoryBreakdown, MmStat};

    fn snapshot(name: &'static str, live: u64, frames: u64, rss: u64) -> Snapshot {
        let memory = MemoryBreakdown {
            live,
            holes: frames - live,
            handles: 1 << 20,
            ..MemoryBreakdown::default()
        };
        let stat = StatReport {
            mm: MmStat {
                orig_data_size: live * 3,
                compr_data_size: live,
                mem_used_total: frames,
                ..MmStat::default()
            },
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
            snapshots: [
                snapshot("at the start", 0, 0, 10 << 20),
                snapshot("loaded", 90 << 20, 100 << 20, 120 << 20),
                snapshot("half deleted", 45 << 20, 80 << 20, 121 << 20),
                snapshot("compacted", 45 << 20, 50 << 20, 70 << 20),
                snapshot("emptied", 0, 0, 12 << 20),
            ],
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
