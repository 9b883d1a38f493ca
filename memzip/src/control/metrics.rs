//! Metrics in the Prometheus text format 0.0.4.
//!
//! Units are base units, and ratios are left to the user. All values come from one [`StatReport`],
//! so the numbers of one scrape belong to the same moment.

use std::fmt::{Display, Write};

use super::stat_json::{StatReport, memory_parts, nbd_errors};
use crate::durations::micros;

/// Returns all metrics of one server.
pub(super) fn text(stat: &StatReport) -> String {
    let mut page = Page::default();
    sizes(&mut page, stat);
    pages(&mut page, stat);
    operations(&mut page, stat);
    clients(&mut page, stat);
    pool(&mut page, stat);
    movement(&mut page, stat);
    page.text
}

fn sizes(page: &mut Page, stat: &StatReport) {
    page.gauge("memzip_disk_bytes", "Size of the disk as clients see it.", stat.disksize);
    page.gauge(
        "memzip_orig_bytes",
        "Stored content before compression, same-filled pages included.",
        stat.orig_data_size,
    );
    page.gauge(
        "memzip_compressed_bytes",
        "Stored content after compression.",
        stat.compr_data_size,
    );
    page.gauge(
        "memzip_memory_used_bytes",
        "Memory of the frames that belong to zspages.",
        stat.mem_used_total,
    );
    page.gauge("memzip_memory_used_max_bytes", "Highest memory_used so far.", stat.mem_used_max);
    page.gauge(
        "memzip_memory_reserved_bytes",
        "Part of the limit reserved for zeros that stay allocated; no memory yet.",
        stat.mem_reserved,
    );
    page.gauge(
        "memzip_memory_limit_bytes",
        "Limit on memory_total and the balloon together, 0 for none.",
        stat.mem_limit,
    );
    page.gauge(
        "memzip_nearly_full",
        "1 when more than 95 % of the limit is needed.",
        u64::from(stat.nearly_full),
    );
    page.counter("memzip_nearly_full_total", "Times nearly_full became 1.", stat.nearly_full_total);
    page.counter(
        "memzip_write_stalls_total",
        "Pages whose write waited for memory.",
        stat.writestall,
    );
    page.gauge("memzip_memory_total_bytes", "Everything the store holds.", stat.mem_total);
    page.family("memzip_memory_bytes", "gauge", "Parts of memory_total.");
    for (part, bytes, _) in memory_parts(&stat.memory) {
        page.sample("memzip_memory_bytes", "part", part, bytes);
    }
    let failed = &stat.memory_failure;
    page.counter("memzip_memory_failures_total", "Frames whose memory has failed.", failed.total.0);
    page.family(
        "memzip_memory_failed_frames",
        "gauge",
        "Frames whose memory has failed, out of use or still in use.",
    );
    page.sample("memzip_memory_failed_frames", "state", "recovered", failed.recovered.0);
    page.sample("memzip_memory_failed_frames", "state", "delayed", failed.delayed.0);
    if let Some(rss) = stat.rss {
        page.gauge("memzip_resident_bytes", "Resident memory of the server process.", rss);
    }
}

fn pages(page: &mut Page, stat: &StatReport) {
    page.family("memzip_pages", "gauge", "Pages of 4 KiB stored in a special form.");
    page.sample("memzip_pages", "state", "same", stat.same_pages);
    page.sample("memzip_pages", "state", "huge", stat.huge_pages);
    page.counter(
        "memzip_huge_pages_stored_total",
        "Incompressible pages ever stored.",
        stat.huge_pages_since,
    );
}

fn operations(page: &mut Page, stat: &StatReport) {
    let io = &stat.io;
    page.family("memzip_operations_total", "counter", "Pages read from and written to the disk.");
    page.sample("memzip_operations_total", "op", "read", io.reads);
    page.sample("memzip_operations_total", "op", "write", io.writes);
    page.family(
        "memzip_operation_failures_total",
        "counter",
        "Pages that failed; op invalid: requests past the end of the disk.",
    );
    page.sample("memzip_operation_failures_total", "op", "read", io.failed_reads);
    page.sample("memzip_operation_failures_total", "op", "write", io.failed_writes);
    page.sample("memzip_operation_failures_total", "op", "invalid", io.invalid_io);
    page.counter("memzip_pages_discarded_total", "Pages freed by discard.", io.notify_free);
}

fn clients(page: &mut Page, stat: &StatReport) {
    let nbd = &stat.nbd;
    page.gauge("memzip_nbd_connections", "Clients served now.", nbd.connections_current);
    page.gauge("memzip_nbd_handshakes", "Clients in the handshake now.", nbd.handshakes_current);
    page.counter("memzip_nbd_connections_total", "Clients served so far.", nbd.connections_total);
    page.counter(
        "memzip_nbd_connections_refused_total",
        "Clients turned away.",
        nbd.connections_refused,
    );
    page.family("memzip_nbd_requests_total", "counter", "Requests by NBD command.");
    let requests = &nbd.requests;
    for (command, count) in [
        ("read", requests.read),
        ("write", requests.write),
        ("flush", requests.flush),
        ("trim", requests.trim),
        ("cache", requests.cache),
        ("write_zeroes", requests.write_zeroes),
        ("block_status", requests.block_status),
        ("unknown", requests.unknown),
    ] {
        page.sample("memzip_nbd_requests_total", "command", command, count);
    }
    page.family(
        "memzip_nbd_errors_total",
        "counter",
        "Error replies by error, and broken connections.",
    );
    for (error, count) in nbd_errors(&nbd.errors) {
        page.sample("memzip_nbd_errors_total", "error", error, count);
    }
    page.counter("memzip_nbd_read_bytes_total", "Content sent to clients.", nbd.bytes_read);
    page.counter(
        "memzip_nbd_written_bytes_total",
        "Content taken from clients.",
        nbd.bytes_written,
    );
    page.gauge(
        "memzip_nbd_buffer_bytes",
        "Memory of the buffers of current connections.",
        nbd.buffer_bytes,
    );
}

fn pool(page: &mut Page, stat: &StatReport) {
    page.counter(
        "memzip_compaction_freed_frames_total",
        "Frames freed by compaction.",
        stat.pages_compacted,
    );
    page.family(
        "memzip_pool_objects",
        "gauge",
        "Stored objects by the size of their class in bytes.",
    );
    for class in &stat.classes {
        page.sample("memzip_pool_objects", "class", class.size, class.obj_used);
    }
    page.family("memzip_blocks_free", "gauge", "Free blocks of 4 KiB << order in the arena.");
    for (order, blocks) in free_blocks(&stat.buddyinfo) {
        page.sample("memzip_blocks_free", "order", order, blocks);
    }
}

fn movement(page: &mut Page, stat: &StatReport) {
    let moved = &stat.movement;
    page.family("memzip_pageblocks", "gauge", "Blocks of 2 MiB of the arena by migrate type.");
    for (name, blocks) in pageblocks(&stat.pagetypeinfo) {
        page.sample("memzip_pageblocks", "type", name, blocks);
    }
    page.family(
        "memzip_vmstat_total",
        "counter",
        "Counters of migration and frame compaction, by their names in /proc/vmstat.",
    );
    for (name, count) in moved.vmstat.iter().filter(|(name, _)| !is_level(name)) {
        page.sample("memzip_vmstat_total", "name", name, *count);
    }
    page.family(
        "memzip_vmstat",
        "gauge",
        "Levels of migration and frame compaction, by their names in /proc/vmstat.",
    );
    for (name, level) in moved.vmstat.iter().filter(|(name, _)| is_level(name)) {
        page.sample("memzip_vmstat", "name", name, *level);
    }
    let objects = &moved.compaction;
    page.counter(
        "memzip_compaction_runs_total",
        "Object compactions that have ended, slices of the background included.",
        objects.runs,
    );
    page.counter(
        "memzip_compaction_moved_objects_total",
        "Objects moved by object compaction.",
        objects.objects_moved,
    );
    page.counter(
        "memzip_compaction_moved_bytes_total",
        "Bytes moved by object compaction.",
        objects.bytes_moved,
    );
    page.counter(
        "memzip_compaction_freed_zspages_total",
        "Zspages freed by object compaction.",
        objects.zspages_freed,
    );
    page.counter(
        "memzip_compaction_skipped_total",
        "Zspages passed over by object compaction.",
        objects.skipped,
    );
    page.seconds(
        "memzip_compaction_seconds_total",
        "Time spent in object compaction.",
        micros(objects.time),
    );
    let balloon = &moved.balloon;
    page.gauge("memzip_balloon_target_bytes", "Target size of the balloon.", balloon.target);
    page.gauge("memzip_balloon_bytes", "Size of the balloon.", balloon.actual);
    page.gauge(
        "memzip_arena_held_bytes",
        "Memory the arena holds, without the balloon's.",
        balloon.held,
    );
    page.counter(
        "memzip_balloon_oom_deflated_bytes_total",
        "Memory that a full store took back from the balloon.",
        balloon.oom_deflated_total,
    );
    if let Some(pressure) = &balloon.pressure {
        let failures =
            "Times memory pressure could not be read; the balloon keeps its size meanwhile.";
        page.counter("memzip_balloon_pressure_failures_total", failures, pressure.failures);
    }
    page.counter(
        "memzip_balloon_refusals_total",
        "Times the system refused the offered memory.",
        balloon.host_refusals,
    );
    let hot = &moved.hot_cache;
    page.gauge(
        "memzip_hot_cache_limit_bytes",
        "Size limit of the cache of uncompressed pages.",
        hot.hot_limit,
    );
    page.gauge("memzip_hot_cache_bytes", "Size of the cache of uncompressed pages.", hot.hot_bytes);
    page.counter(
        "memzip_hot_cache_hits_total",
        "Pages of the cache read or overwritten in place.",
        hot.hits,
    );
    page.counter(
        "memzip_hot_cache_admissions_total",
        "Pages admitted to the cache.",
        hot.admissions,
    );
    page.counter(
        "memzip_hot_cache_evictions_total",
        "Pages compressed to make room in the cache.",
        hot.evictions,
    );
    let background = &moved.background;
    page.seconds(
        "memzip_background_cpu_seconds_total",
        "CPU time of compaction in the background.",
        background.cpu_us,
    );
    page.gauge(
        "memzip_background_freeable_frames",
        "Frames object compaction could free at the last poll of the background thread.",
        background.frames_freeable,
    );
}

/// Returns whether a value of vmstat is a level, which can fall: the names that begin with `nr_`.
fn is_level(name: &str) -> bool {
    name.starts_with("nr_")
}

/// Returns pageblocks by type: the last two lines of a pagetypeinfo text are a head and its
/// numbers.
fn pageblocks(pagetypeinfo: &str) -> Vec<(&str, u64)> {
    let mut lines = pagetypeinfo.lines().rev();
    let (Some(numbers), Some(head)) = (lines.next(), lines.next()) else { return Vec::new() };
    let names = head.split_once("type").map_or("", |(_, names)| names).split_whitespace();
    let numbers =
        numbers.split_once("zone").map_or("", |(_, rest)| rest).split_whitespace().skip(1);
    names.zip(numbers.map_while(|word| word.parse().ok())).collect()
}

/// Returns free blocks by order: the sums over the lines of a buddyinfo text, where the counts
/// follow the name of the zone.
fn free_blocks(buddyinfo: &str) -> Vec<(usize, u64)> {
    let mut sums: Vec<(usize, u64)> = Vec::new();
    for line in buddyinfo.lines() {
        let Some((_, zone)) = line.split_once("zone") else { continue };
        for (order, count) in
            zone.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).enumerate()
        {
            match sums.get_mut(order) {
                Some((_, sum)) => *sum += count,
                None => sums.push((order, count)),
            }
        }
    }
    sums
}

/// A page of metrics being written.
#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// Writes a sample. Label values come from this program and need no escaping.
    fn sample(&mut self, name: &str, label: &str, value: impl Display, number: u64) {
        self.line(format_args!("{name}{{{label}=\"{value}\"}} {number}"));
    }

    fn gauge(&mut self, name: &str, help: &str, number: u64) {
        self.single(name, "gauge", help, number);
    }

    fn counter(&mut self, name: &str, help: &str, number: u64) {
        self.single(name, "counter", help, number);
    }

    /// Writes a time as a counter of seconds.
    fn seconds(&mut self, name: &str, help: &str, micros: u64) {
        self.family(name, "counter", help);
        self.line(format_args!("{name} {}.{:06}", micros / 1_000_000, micros % 1_000_000));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, number: u64) {
        self.family(name, kind, help);
        self.line(format_args!("{name} {number}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::movement::MovementStats;
    use crate::control::stat_json::ClassRow;
    use frames::{FrameCount, MemoryFailureStats};
    use std::time::Duration;
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
            movement: MovementStats {
                vmstat: [("pgmigrate_success".to_owned(), 77), ("nr_isolated".to_owned(), 8)].into(),
                compaction: CompactionTotals {
                    time: Duration::from_micros(1_000_050),
                    ..CompactionTotals::default()
                },
                ..MovementStats::default()
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
