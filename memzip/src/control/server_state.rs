//! The state behind the control plane: one disk and the server in front of it.

use std::sync::Arc;
use std::time::Duration;

use block::{BlockDevice, Bytes};
use zram::Zram;
use zsmalloc::ClassStats;

use super::compact_json::{CompactReport, CompactRequest};
use super::limit_json::{LimitRefusal, LimitReport};
use super::maintenance::Maintenance;
use super::stat_json::{ClassRow, StatReport};
use super::{compaction, movement};

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
            memory: stat.memory,
            memory_failure: self.disk.zone().memory_failure_stats(),
            io: stat.io,
            nbd: self.server.stats(),
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

    /// Sets the memory limit; 0 removes it. Below what the disk holds, writes that need memory are
    /// refused until enough is freed.
    ///
    /// # Errors
    /// The arena cannot hold that much.
    pub(super) fn set_mem_limit(&self, asked: u64) -> Result<LimitReport, LimitRefusal> {
        let disk = &self.disk;
        let start = disk.config().mem_limit.map_or(0, |limit| limit.0);
        let max = disk.zone().capacity().bytes().max(start);
        if asked > max {
            return Err(LimitRefusal::ExceedsArena { asked, max });
        }
        disk.set_mem_limit((asked > 0).then_some(Bytes(asked)));
        Ok(disk.stat().into())
    }

    /// Starts `mem_used_max` again from `mem_used_total`.
    ///
    /// # Errors
    /// `asked` is not 0.
    pub(super) fn reset_mem_used_max(&self, asked: u64) -> Result<LimitReport, LimitRefusal> {
        if asked > 0 {
            return Err(LimitRefusal::PeakNotZero { asked });
        }
        self.disk.reset_mem_used_max();
        Ok(self.disk.stat().into())
    }

    /// Compacts objects into full zspages, then frames into full 2 MiB blocks, as far as requested,
    /// within `budget`.
    pub(crate) fn compact(&self, request: CompactRequest, budget: Duration) -> CompactReport {
        compaction::run(&self.disk, request, budget)
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
