//! Metrics in the Prometheus text format 0.0.4.
//!
//! Units are base units, and ratios are left to the user. All values come from one [`StatReport`],
//! so the numbers of one scrape belong to the same moment.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::Duration;

use zram::IoStat;

use super::stat_json::{StatReport, memory_parts, nbd_errors};

/// Writes families of metrics to a page: `kind name = value, help` for one number or an `Option` of
/// it, and `kind name{label} = samples, help` for pairs of a label's value and a number.
macro_rules! metrics {
    ($page:ident; $($kind:ident $name:ident $({$label:ident})? = $value:expr, $help:literal;)*) => {
        $(metrics!(@ $page $kind $name $help $value $(, $label)?);)*
    };
    (@ $page:ident seconds $name:ident $help:literal $value:expr) => {
        $page.seconds(stringify!($name), $help, $value)
    };
    (@ $page:ident $kind:ident $name:ident $help:literal $value:expr) => {
        $page.number(stringify!($kind), stringify!($name), $help, $value)
    };
    (@ $page:ident $kind:ident $name:ident $help:literal $value:expr, $label:ident) => {
        $page.samples(stringify!($kind), stringify!($name), $help, stringify!($label), $value)
    };
}

/// Returns all metrics of one server.
pub(super) fn text(stat: &StatReport) -> String {
    let mut page = Page::default();
    disk(&mut page, stat);
    clients(&mut page, &stat.nbd);
    movement(&mut page, stat);
    page.0
}

fn disk(page: &mut Page, stat: &StatReport) {
    let (mm, limit, failed) = (&stat.mm, &stat.limit, &stat.memory_failure);
    let IoStat { reads, writes, failed_reads, failed_writes, invalid_io, notify_free } = stat.io;
    metrics! { page;
        gauge memzip_disk_bytes = stat.disksize, "Size of the disk as clients see it.";
        gauge memzip_orig_bytes = mm.orig_data_size,
            "Stored content before compression, same-filled pages included.";
        gauge memzip_compressed_bytes = mm.compr_data_size, "Stored content after compression.";
        gauge memzip_memory_used_bytes = mm.mem_used_total,
            "Memory of the frames that belong to zspages.";
        gauge memzip_memory_used_max_bytes = mm.mem_used_max, "Highest memory_used so far.";
        gauge memzip_memory_reserved_bytes = stat.mem_reserved,
            "Part of the limit reserved for zeros that stay allocated; no memory yet.";
        gauge memzip_memory_limit_bytes = mm.mem_limit,
            "Limit on memory_total and the balloon together, 0 for none.";
        gauge memzip_nearly_full = u64::from(limit.nearly_full),
            "1 when more than 95 % of the limit is needed.";
        counter memzip_nearly_full_total = limit.nearly_full_total, "Times nearly_full became 1.";
        counter memzip_write_stalls_total = limit.writestall,
            "Pages whose write waited for memory.";
        gauge memzip_memory_total_bytes = stat.mem_total, "Everything the store holds.";
        gauge memzip_memory_bytes{part} =
            memory_parts(&stat.memory).map(|(part, bytes, _)| (part, bytes)),
            "Parts of memory_total.";
        counter memzip_memory_failures_total = failed.total.0, "Frames whose memory has failed.";
        gauge memzip_memory_failed_frames{state} =
            [("recovered", failed.recovered.0), ("delayed", failed.delayed.0)],
            "Frames whose memory has failed, out of use or still in use.";
        gauge memzip_resident_bytes = stat.rss, "Resident memory of the server process.";
        gauge memzip_pages{state} = [("same", mm.same_pages), ("huge", mm.huge_pages)],
            "Pages of 4 KiB stored in a special form.";
        counter memzip_huge_pages_stored_total = mm.huge_pages_since,
            "Incompressible pages ever stored.";
        counter memzip_operations_total{op} = [("read", reads), ("write", writes)],
            "Pages read from and written to the disk.";
        counter memzip_operation_failures_total{op} =
            [("read", failed_reads), ("write", failed_writes), ("invalid", invalid_io)],
            "Pages that failed; op invalid: requests past the end of the disk.";
        counter memzip_pages_discarded_total = notify_free, "Pages freed by discard.";
    }
}

fn clients(page: &mut Page, nbd: &nbd::Stats) {
    let requests = &nbd.requests;
    let requests = [
        ("read", requests.read),
        ("write", requests.write),
        ("flush", requests.flush),
        ("trim", requests.trim),
        ("cache", requests.cache),
        ("write_zeroes", requests.write_zeroes),
        ("block_status", requests.block_status),
        ("unknown", requests.unknown),
    ];
    metrics! { page;
        gauge memzip_nbd_connections = nbd.connections_current, "Clients served now.";
        gauge memzip_nbd_handshakes = nbd.handshakes_current, "Clients in the handshake now.";
        counter memzip_nbd_connections_total = nbd.connections_total, "Clients served so far.";
        counter memzip_nbd_connections_refused_total = nbd.connections_refused,
            "Clients turned away.";
        counter memzip_nbd_requests_total{command} = requests, "Requests by NBD command.";
        counter memzip_nbd_errors_total{error} = nbd_errors(&nbd.errors),
            "Error replies by error, and broken connections.";
        counter memzip_nbd_read_bytes_total = nbd.bytes_read, "Content sent to clients.";
        counter memzip_nbd_written_bytes_total = nbd.bytes_written, "Content taken from clients.";
        gauge memzip_nbd_buffer_bytes = nbd.buffer_bytes,
            "Memory of the buffers of current connections.";
    }
}

fn movement(page: &mut Page, stat: &StatReport) {
    let StatReport { vmstat, compaction, background, balloon, hot_cache, .. } = stat;
    // A level, which can fall, has a name that begins with `nr_`.
    let (levels, counters): (Vec<_>, Vec<_>) = vmstat
        .iter()
        .map(|(name, count)| (name, *count))
        .partition(|(name, _)| name.starts_with("nr_"));
    metrics! { page;
        counter memzip_compaction_freed_frames_total = stat.mm.pages_compacted,
            "Frames freed by compaction.";
        gauge memzip_pool_objects{class} =
            stat.classes.iter().map(|class| (class.size, class.obj_used)),
            "Stored objects by the size of their class in bytes.";
        gauge memzip_blocks_free{order} = free_blocks(&stat.buddyinfo),
            "Free blocks of 4 KiB << order in the arena.";
        gauge memzip_pageblocks{type} = pageblocks(&stat.pagetypeinfo),
            "Blocks of 2 MiB of the arena by migrate type.";
        counter memzip_vmstat_total{name} = counters,
            "Counters of migration and frame compaction, by their names in /proc/vmstat.";
        gauge memzip_vmstat{name} = levels,
            "Levels of migration and frame compaction, by their names in /proc/vmstat.";
        counter memzip_compaction_runs_total = compaction.runs,
            "Object compactions that have ended, slices of the background included.";
        counter memzip_compaction_moved_objects_total = compaction.objects_moved,
            "Objects moved by object compaction.";
        counter memzip_compaction_moved_bytes_total = compaction.bytes_moved,
            "Bytes moved by object compaction.";
        counter memzip_compaction_freed_zspages_total = compaction.zspages_freed,
            "Zspages freed by object compaction.";
        counter memzip_compaction_skipped_total = compaction.skipped,
            "Zspages passed over by object compaction.";
        seconds memzip_compaction_seconds_total = compaction.time,
            "Time spent in object compaction.";
        gauge memzip_balloon_target_bytes = balloon.target, "Target size of the balloon.";
        gauge memzip_balloon_bytes = balloon.actual, "Size of the balloon.";
        gauge memzip_arena_held_bytes = balloon.held,
            "Memory the arena holds, without the balloon's.";
        counter memzip_balloon_oom_deflated_bytes_total = balloon.oom_deflated_total,
            "Memory that a full store took back from the balloon.";
        counter memzip_balloon_pressure_failures_total =
            balloon.pressure.as_ref().map(|pressure| pressure.failures),
            "Times memory pressure could not be read; the balloon keeps its size meanwhile.";
        counter memzip_balloon_refusals_total = balloon.host_refusals,
            "Times the system refused the offered memory.";
        gauge memzip_hot_cache_limit_bytes = hot_cache.hot_limit,
            "Size limit of the cache of uncompressed pages.";
        gauge memzip_hot_cache_bytes = hot_cache.hot_bytes,
            "Size of the cache of uncompressed pages.";
        counter memzip_hot_cache_hits_total = hot_cache.hits,
            "Pages of the cache read or overwritten in place.";
        counter memzip_hot_cache_admissions_total = hot_cache.admissions,
            "Pages admitted to the cache.";
        counter memzip_hot_cache_evictions_total = hot_cache.evictions,
            "Pages compressed to make room in the cache.";
        seconds memzip_background_cpu_seconds_total = background.stats.cpu,
            "CPU time of compaction in the background.";
        gauge memzip_background_freeable_frames = background.stats.frames_freeable,
            "Frames object compaction could free at the last poll of the background thread.";
    }
}

/// Returns pageblocks by type: the last two lines of a pagetypeinfo text, a head and its numbers.
fn pageblocks(pagetypeinfo: &str) -> Vec<(&str, u64)> {
    let mut lines = pagetypeinfo.lines().rev();
    let (Some(numbers), Some(head)) = (lines.next(), lines.next()) else { return Vec::new() };
    let names = head.split_once("type").map_or("", |(_, names)| names).split_whitespace();
    let numbers =
        numbers.split_once("zone").map_or("", |(_, rest)| rest).split_whitespace().skip(1);
    names.zip(numbers.map_while(|word| word.parse().ok())).collect()
}

/// Returns free blocks by order: sums over the lines of a buddyinfo text, after the zone's name.
fn free_blocks(buddyinfo: &str) -> BTreeMap<usize, u64> {
    let mut sums = BTreeMap::<usize, u64>::new();
    for (_, zone) in buddyinfo.lines().filter_map(|line| line.split_once("zone")) {
        let counts = zone.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
        counts.enumerate().for_each(|(order, count)| *sums.entry(order).or_default() += count);
    }
    sums
}

/// A page of metrics being written.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// Writes a family of one number, if there is one.
    fn number(&mut self, kind: &str, name: &str, help: &str, number: impl Into<Option<u64>>) {
        if let Some(number) = number.into() {
            self.family(kind, name, help);
            self.line(format_args!("{name} {number}"));
        }
    }

    /// Writes a time as a counter of seconds.
    fn seconds(&mut self, name: &str, help: &str, time: Duration) {
        self.family("counter", name, help);
        self.line(format_args!("{name} {}.{:06}", time.as_secs(), time.subsec_micros()));
    }

    /// Writes a family with a label. Its values come from this program and need no escaping.
    fn samples<V: Display>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (V, u64)>,
    ) {
        self.family(kind, name, help);
        for (value, number) in samples {
            self.line(format_args!("{name}{{{label}=\"{value}\"}} {number}"));
        }
    }

    fn family(&mut self, kind: &str, name: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stat_json::ClassRow;
    use frames::{FrameCount, MemoryFailureStats};
    use zram::MemoryBreakdown;
    use zsmalloc::CompactionTotals;

    #[test]
    fn every_sample_has_a_family_and_a_number() {
        let stat = StatReport {
            memory: MemoryBreakdown { live: 7, ..MemoryBreakdown::default() },
            rss: Some(9),
            memory_failure: MemoryFailureStats {
                total: FrameCount(3),
                recovered: FrameCount(2),
                delayed: FrameCount(1),
            },
            classes: vec![ClassRow { size: 48, obj_used: 3, ..ClassRow::default() }],
            buddyinfo: "Node 0, zone   Movable      5      0      1\nNode 0, zone Unmovable 1 1 1\n".into(),
            pagetypeinfo:
                "Number of blocks type     Unmovable      Movable \nNode 0, zone   memzip            1           70 \n"
                    .into(),
            vmstat: [("pgmigrate_success".to_owned(), 77), ("nr_isolated".to_owned(), 8)].into(),
            compaction: CompactionTotals {
                time: Duration::from_micros(1_000_050),
                ..CompactionTotals::default()
            },
            ..StatReport::default()
        };
        let text = text(&stat);
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap_or("");
                assert!(family.starts_with("memzip_"));
            } else if !line.starts_with('#') {
                let (name, number) =
                    line.rsplit_once(' ').expect("a sample is a name and a number");
                assert_eq!(name.split('{').next(), Some(family), "{line}");
                assert!(
                    number.parse::<u64>().is_ok() || name.ends_with("_seconds_total"),
                    "{line}"
                );
                assert!(number.parse::<f64>().is_ok(), "{line}");
            }
        }
        for expected in [
            "memzip_memory_bytes{part=\"live\"} 7",
            "memzip_resident_bytes 9",
            "memzip_memory_failures_total 3",
            "memzip_memory_failed_frames{state=\"recovered\"} 2",
            "memzip_memory_failed_frames{state=\"delayed\"} 1",
            "memzip_pool_objects{class=\"48\"} 3",
            "memzip_blocks_free{order=\"0\"} 6",
            "memzip_blocks_free{order=\"2\"} 2",
            "memzip_pageblocks{type=\"Movable\"} 70",
            "memzip_vmstat_total{name=\"pgmigrate_success\"} 77",
            "memzip_vmstat{name=\"nr_isolated\"} 8",
            "memzip_compaction_seconds_total 1.000050",
        ] {
            assert!(
                text.lines().any(|line| line == expected),
                "{expected} is missing from\n{text}"
            );
        }
    }
}
