//! E-3 as a table of three columns, the original of 2016, the guest's kernel and memzip, and as
//! JSON.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;

use super::measured::{Measured, PART_MIB, WRITERS};
use crate::figures::{FRAME, FreeBlocks, held};
use crate::server::Stat;

/// The published buddyinfo of zone DMA32 with the original series, before and after compaction
/// (E-3).
const ORIGINAL: [&str; 2] = [
    "Node 0, zone DMA32 18891 16774 10862 3947 637 21 0 0 0 0 0",
    "Node 0, zone DMA32 1612 3139 3154 2469 1745 990 384 94 7 0 0",
];
/// Order of blocks of 2 MiB, which huge pages and decommitting need.
const HUGE: usize = 9;
/// Least share of memzip's free memory in blocks of order 9 and more.
const MIN_RATIO: f64 = 0.98;

/// The table, the goals and the measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    rows: Vec<Row>,
    goals: Vec<Criterion>,
    measured: &'a Measured,
}

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    unit: Unit,
    original: Option<f64>,
    kernel: Option<f64>,
    memzip: Option<f64>,
}

/// The unit of a row.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Share,
    Bytes,
    BytesPerByte,
}

/// A goal, and whether it is met.
#[derive(Debug, Serialize)]
struct Criterion {
    what: String,
    met: bool,
}

/// Free memory by block order.
struct Free {
    /// Free blocks. Frames on per-CPU lists count as blocks of order 0.
    blocks: FreeBlocks,
    /// All free frames, the denominator of a share.
    frames: u64,
}

impl Free {
    fn of_kernel(zone: &FreeBlocks) -> Self {
        Self { blocks: zone.clone(), frames: zone.frames() }
    }

    /// Returns the free memory of memzip's arena, by the interpretation that is worse for memzip.
    ///
    /// `buddyinfo` counts free blocks below the high-water mark, including decommitted ones. The
    /// limit allows further frames beside what is in use and reserved, however high the mark is.
    /// The smaller of the two sums is the denominator. `buddyinfo` does not count frames on per-CPU
    /// lists. `free_frames` counts all committed free frames, so those of them that are in no
    /// block of `buddyinfo` are on a list.
    fn of_memzip(stat: &Stat) -> Result<Self> {
        let mut blocks = FreeBlocks::parse(&stat.buddyinfo)
            .context("memzip's buddyinfo has not the kernel's format")?;
        let committed =
            *stat.memory.get("free_frames").context("memzip stat has no free_frames")?;
        let in_use = stat.mem_total.saturating_sub(committed) + stat.mem_reserved;
        let fragments = blocks.frames() - blocks.frames_from(HUGE);
        blocks.blocks[0] += (committed / FRAME).saturating_sub(fragments) % (1 << HUGE);
        let allowed = stat.mem_limit.saturating_sub(in_use) / FRAME;
        Ok(Self { frames: blocks.frames().min(allowed), blocks })
    }

    fn share_from(&self, order: usize) -> Option<f64> {
        let fragments = self.blocks.frames() - self.blocks.frames_from(order);
        let whole = self.frames.saturating_sub(fragments);
        (self.frames > 0).then(|| whole as f64 / self.frames as f64)
    }
}

impl<'a> Report<'a> {
    /// Computes the rows and the goals.
    pub(crate) fn of(measured: &'a Measured) -> Result<Self> {
        let Measured { kernel, memzip, .. } = measured;
        let [init, after] =
            ORIGINAL.map(|line| FreeBlocks::parse(line).expect("a line of buddyinfo"));
        let original = [init, after].map(|zone| Free::of_kernel(&zone));
        let theirs = [&kernel.before, &kernel.after].map(|moment| Free::of_kernel(&moment.zone));
        let ours = [Free::of_memzip(&memzip.before)?, Free::of_memzip(&memzip.after)?];
        let when = ["before", "after"];
        // Shares of free memory, then free memory, then memory held.
        let mut rows = Vec::new();
        for order in [4, HUGE] {
            rows.extend((0..2).map(|moment| Row {
                what: format!(
                    "free memory in blocks of order >= {order}, {} compaction",
                    when[moment]
                ),
                unit: Unit::Share,
                original: original[moment].share_from(order),
                kernel: theirs[moment].share_from(order),
                memzip: ours[moment].share_from(order),
            }));
        }
        rows.extend((0..2).map(|moment| Row {
            what: format!("free memory, {} compaction", when[moment]),
            unit: Unit::Bytes,
            original: Some((original[moment].frames * FRAME) as f64),
            kernel: Some((theirs[moment].frames * FRAME) as f64),
            memzip: Some((ours[moment].frames * FRAME) as f64),
        }));
        let files = ((WRITERS / 2 * PART_MIB) << 20) as f64;
        let per_byte = |bytes: u64| Some(bytes as f64 / files);
        let theirs = [&kernel.before, &kernel.after].map(|moment| moment.mm_stat);
        let ours = [&memzip.before, &memzip.after];
        rows.extend((0..2).map(|moment| Row {
            what: format!("memory held per byte of files left, {} compaction", when[moment]),
            unit: Unit::BytesPerByte,
            original: None,
            kernel: per_byte(held(&theirs[moment], kernel.disksize)),
            memzip: per_byte(ours[moment].mem_total),
        }));
        let after = |what: &str, kernel: Option<u64>, memzip: Option<u64>| Row {
            what: format!("{what}, after compaction"),
            unit: Unit::BytesPerByte,
            original: None,
            kernel: kernel.and_then(per_byte),
            memzip: memzip.and_then(per_byte),
        };
        let (theirs, ours) = (theirs[1], ours[1]);
        rows.extend([
            after(
                "of it compressed data (compr_data_size)",
                Some(theirs.compr_data_size),
                Some(ours.compr_data_size),
            ),
            after(
                "of it zspages (mem_used_total)",
                Some(theirs.mem_used_total),
                Some(ours.mem_used_total),
            ),
            after("resident memory of the whole server", None, ours.rss),
        ]);
        let goals = goals(&rows);
        Ok(Self { rows, goals, measured })
    }
}

/// Returns the goals: the share of order 9 after compaction, and the memory held then.
fn goals(rows: &[Row]) -> Vec<Criterion> {
    let after = |what: &str| {
        rows.iter().find(|row| row.what.starts_with(what) && row.what.ends_with("after compaction"))
    };
    let huge =
        after(&format!("free memory in blocks of order >= {HUGE}")).and_then(|row| row.memzip);
    let held = after("memory held").and_then(|row| Some((row.memzip?, row.kernel?)));
    vec![
        Criterion {
            what: format!(
                "memzip has at least {:.0} % of its free memory in blocks of order >= {HUGE}",
                MIN_RATIO * 100.0
            ),
            met: huge.is_some_and(|share| share >= MIN_RATIO),
        },
        Criterion {
            what: "memzip holds no more memory than the kernel, metadata included".into(),
            met: held.is_some_and(|(memzip, kernel)| memzip <= kernel),
        },
    ]
}

impl Unit {
    fn show(self, value: Option<f64>) -> String {
        match (self, value) {
            (_, None) => "-".into(),
            (Self::Share, Some(share)) => format!("{:.1} %", share * 100.0),
            (Self::Bytes, Some(bytes)) => format!("{:.0} MiB", bytes / f64::from(1 << 20)),
            (Self::BytesPerByte, Some(ratio)) => format!("{ratio:.4}"),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { algorithm, kernel, memzip } = self.measured;
        let release = kernel.release.split(['+', '-']).next().unwrap_or(&kernel.release);
        writeln!(
            f,
            "E-3 in a guest: ext4, {WRITERS} writers of {PART_MIB} MiB of real files, 1 3 5 7 deleted, fstrim; {algorithm}\n"
        )?;
        // The rows, then the raw figures that they are computed from.
        let heads = ["original 2016".to_owned(), format!("kernel {release}"), "memzip".to_owned()];
        writeln!(f, "{:<58}{:>15}{:>18}{:>12}", "", heads[0], heads[1], heads[2])?;
        for Row { what, unit, original, kernel, memzip } in &self.rows {
            let [original, kernel, memzip] =
                [original, kernel, memzip].map(|value| unit.show(*value));
            writeln!(f, "{what:<58}{original:>15}{kernel:>18}{memzip:>12}")?;
        }
        writeln!(f, "\nblocks after compaction, orders 0 to 10")?;
        writeln!(f, "  kernel {}: {:?}", kernel.after.zone.zone, kernel.after.zone.blocks)?;
        writeln!(f, "  {}", memzip.after.buddyinfo.trim())?;
        let (objects, mm) = (&memzip.compaction, kernel.before.mm_stat);
        writeln!(
            f,
            "memzip's compaction: {} objects and {} frames moved, {} frames freed, {:.0} ms",
            objects.objects_moved,
            objects.frames_moved,
            objects.frames_freed,
            objects.duration_us as f64 / 1000.0
        )?;
        writeln!(
            f,
            "zram's own: mem_used_total {} -> {} MiB (pages_compacted {} -> {})",
            mm.mem_used_total >> 20,
            kernel.after.mm_stat.mem_used_total >> 20,
            mm.pages_compacted,
            kernel.after.mm_stat.pages_compacted
        )?;
        writeln!(f, "{}", NOTES.trim())?;
        self.goals.iter().try_for_each(|goal| {
            writeln!(f, "goal {}: {}", if goal.met { "met" } else { "NOT MET" }, goal.what)
        })?;
        writeln!(
            f,
            "verified: the files left are byte for byte what was written, on both disks, after compaction"
        )
    }
}

/// The notes below the table.
const NOTES: &str = "
original and kernel: free memory of zone DMA32, the rest of the guest in it; before = after fstrim and drop_caches
memzip: free memory of an arena limited to 1.1 times its peak. The smaller of (buddyinfo and per-CPU lists, below the
  high-water mark) and (limit - in use - reserved) is the whole; everything below the order in question is a fragment
memory held: kernel = mem_used_total + 16 bytes a slot + 8 bytes a stored object; memzip = mem_total, all of it
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Counts, Nbd};
    use std::collections::BTreeMap;

    fn stat(buddyinfo: &str, free_frames: u64, used: u64, limit: u64) -> Stat {
        Stat {
            disksize: 0,
            comp_algorithm: "lz4".into(),
            orig_data_size: 0,
            compr_data_size: 0,
            mem_used_total: used * FRAME,
            mem_used_max: 0,
            mem_total: (used + free_frames) * FRAME,
            mem_reserved: 0,
            mem_limit: limit * FRAME,
            rss: None,
            memory: BTreeMap::from([("free_frames".to_owned(), free_frames * FRAME)]),
            io: BTreeMap::new(),
            nbd: Nbd { errors: BTreeMap::new() },
            buddyinfo: buddyinfo.into(),
            vmstat: BTreeMap::new(),
            compaction: Counts::default(),
            balloon: Counts::default(),
            hot_cache: Counts::default(),
        }
    }

    fn percent(share: Option<f64>) -> String {
        Unit::Share.show(share)
    }

    #[test]
    fn the_originals_shares_are_the_published_ones() {
        let [init, after] =
            ORIGINAL.map(|line| Free::of_kernel(&FreeBlocks::parse(line).expect("a line")));
        assert_eq!([&init, &after].map(|free| percent(free.share_from(4))), ["7.9 %", "70.9 %"]);
        assert_eq!([&init, &after].map(|free| percent(free.share_from(5))), ["0.5 %", "50.7 %"]);
        assert_eq!([&init, &after].map(|free| percent(free.share_from(HUGE))), ["0.0 %", "0.0 %"]);
        assert_eq!([init.frames, after.frames], [138_327, 138_258]);
    }

    #[test]
    fn frames_on_cpu_lists_count_as_fragments() {
        // 512 frames decommitted or idle, 10 in fragments, and 14 + 512 committed: 4 are on a list.
        let line = "Node 0, zone memzip 2 0 2 0 0 0 0 0 0 1 0";
        let free = Free::of_memzip(&stat(line, 14 + 512, 1000, 100_000)).expect("a stat");
        assert_eq!((free.blocks.blocks[0], free.frames), (2 + 4, 512 + 14));
        assert_eq!(free.share_from(HUGE), Some(512.0 / 526.0));
        assert_eq!(free.share_from(0), Some(1.0));
    }

    #[test]
    fn the_limit_is_the_denominator_where_it_is_less() {
        // 1536 free frames below the high-water mark. The limit allows 100 more; 12 are fragments.
        let line = "Node 0, zone memzip 12 0 0 0 0 0 0 0 0 1 1";
        let free = Free::of_memzip(&stat(line, 12, 1000, 1100)).expect("a stat");
        assert_eq!(free.share_from(HUGE), Some(0.88));
        let full = Free::of_memzip(&stat(line, 12, 1100, 1100)).expect("a stat");
        assert_eq!(full.share_from(HUGE), None);
        let more = Free::of_memzip(&stat(line, 12, 1095, 1100)).expect("a stat");
        assert_eq!(
            more.share_from(HUGE),
            Some(0.0),
            "there are more fragments than the limit allows"
        );
    }

    #[test]
    fn goals_compare_the_right_rows() {
        let row = |what: &str, kernel, memzip| Row {
            what: what.into(),
            unit: Unit::Share,
            original: None,
            kernel: Some(kernel),
            memzip: Some(memzip),
        };
        let rows = |share, held| {
            [
                row("free memory in blocks of order >= 9, before compaction", 0.1, 1.0 - share),
                row("free memory in blocks of order >= 9, after compaction", 0.7, share),
                row("memory held per byte of files left, before compaction", 0.9, 0.9 - held),
                row("memory held per byte of files left, after compaction", 0.4, held),
            ]
        };
        let met =
            |share, held| goals(&rows(share, held)).iter().map(|goal| goal.met).collect::<Vec<_>>();
        assert_eq!(met(0.99, 0.4), [true, true]);
        assert_eq!(met(0.97, 0.41), [false, false]);
        assert!(goals(&[]).iter().all(|goal| !goal.met), "a goal without a measurement is not met");
    }
}
