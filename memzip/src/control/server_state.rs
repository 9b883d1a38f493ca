//! The state behind the control plane: one disk and the server in front of it.

use std::sync::Arc;
use std::time::Duration;

use zram::Zram;
use zsmalloc::ClassStats;

use super::compact_json::{CompactReport, CompactRequest};
use super::stat_json::{
    ClassRow, IoCounts, MemoryFailureCounts, MemoryParts, NbdCounts, NbdErrors, NbdRequests,
    StatReport,
};
use super::{Maintenance, compaction, movement};

/// A served disk and its server.
pub(crate) struct ServerState {
    disk: Arc<Zram>,
    maintenance: Maintenance,
    server: nbd::Handle,
    uri: String,
}

impl ServerState {
    /// Combines a disk, its maintenance and its server.
    pub(crate) fn new(disk: Arc<Zram>, maintenance: Maintenance, server: &nbd::Server) -> Self {
        Self { disk, maintenance, server: server.handle(), uri: server.uri().to_owned() }
    }

    /// Returns the current statistics.
    pub(crate) fn stat(&self) -> StatReport {
        use block::BlockDevice;
        let stat = self.disk.stat();
        let mm = &stat.mm;
        StatReport {
            uri: self.uri.clone(),
            disksize: self.disk.size().0,
            comp_algorithm: self.disk.config().algorithm.to_string(),
            read_only: self.disk.is_read_only(),
            orig_data_size: mm.orig_data_size,
            compr_data_size: mm.compr_data_size,
            mem_used_total: mm.mem_used_total,
            mem_total: stat.memory.mem_total,
            mem_limit: mm.mem_limit,
            mem_reserved: stat.reserved,
            nearly_full: stat.limit.nearly_full,
            nearly_full_total: stat.limit.nearly_full_total,
            writestall: stat.limit.writestall,
            mem_used_max: mm.mem_used_max,
            same_pages: mm.same_pages,
            huge_pages: mm.huge_pages,
            huge_pages_since: mm.huge_pages_since,
            pages_compacted: mm.pages_compacted,
            rss: sys::rss::resident_bytes(),
            memory: parts(&stat.memory),
            memory_failure: failures(self.disk.zone().memory_failure_stats()),
            io: io(&stat.io),
            nbd: clients(&self.server.stats()),
            classes: stat
                .classes
                .iter()
                .filter(|class| class.frames_used > 0)
                .map(class_row)
                .collect(),
            pagetypeinfo: self.disk.zone().pagetypeinfo().to_string(),
            movement: movement::report(&self.disk, &stat, &self.maintenance),
            buddyinfo: stat.buddyinfo,
        }
    }

    /// Returns the maintenance of the disk.
    pub(crate) fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// Compacts objects into full zspages, then frames into full 2 MiB blocks, as far as requested,
    /// within `budget`.
    pub(crate) fn compact(&self, request: CompactRequest, budget: Duration) -> CompactReport {
        compaction::run(&self.disk, request, budget)
    }
}

/// Converts a duration to microseconds, at most `u64::MAX`.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn parts(memory: &zram::MemoryBreakdown) -> MemoryParts {
    MemoryParts {
        live: memory.live,
        rounding: memory.rounding,
        holes: memory.holes,
        free_frames: memory.free_frames,
        descriptors: memory.descriptors,
        handles: memory.handles,
        zspages: memory.zspages,
        slots: memory.slots,
        hot: memory.hot,
        hot_records: memory.hot_records,
        streams: memory.streams,
    }
}

fn failures(stats: frames::MemoryFailureStats) -> MemoryFailureCounts {
    MemoryFailureCounts {
        total: stats.total.0,
        recovered: stats.recovered.0,
        delayed: stats.delayed.0,
    }
}

fn io(io: &zram::IoStat) -> IoCounts {
    IoCounts {
        reads: io.reads,
        writes: io.writes,
        failed_reads: io.failed_reads,
        failed_writes: io.failed_writes,
        invalid_io: io.invalid_io,
        notify_free: io.notify_free,
    }
}

fn class_row(stats: &ClassStats) -> ClassRow {
    ClassRow {
        class: stats.class.index.into(),
        size: stats.class.size.into(),
        fullness: stats.groups.iter().copied().map(u64::from).collect(),
        obj_allocated: stats.objects_allocated,
        obj_used: stats.objects_used,
        pages_used: stats.frames_used,
        pages_per_zspage: stats.class.frames.into(),
        freeable: stats.frames_freeable,
    }
}

fn clients(stats: &nbd::Stats) -> NbdCounts {
    let (requests, errors) = (&stats.requests, &stats.errors);
    NbdCounts {
        connections: stats.connections_current,
        handshakes: stats.handshakes_current,
        connections_total: stats.connections_total,
        connections_refused: stats.connections_refused,
        bytes_read: stats.bytes_read,
        bytes_written: stats.bytes_written,
        buffer_bytes: stats.buffer_bytes,
        requests: NbdRequests {
            read: requests.read,
            write: requests.write,
            flush: requests.flush,
            trim: requests.trim,
            cache: requests.cache,
            write_zeroes: requests.write_zeroes,
            block_status: requests.block_status,
            unknown: requests.unknown,
        },
        errors: NbdErrors {
            eperm: errors.not_permitted,
            eio: errors.io,
            einval: errors.invalid,
            enospc: errors.no_space,
            eoverflow: errors.overflow,
            enotsup: errors.not_supported,
            eshutdown: errors.shutting_down,
            broken_conversations: errors.broken_connections,
        },
    }
}
