//! The state behind the control plane: one disk and the server in front of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use block::{BlockDevice, Bytes};
use zram::{Movability, Zram};
use zsmalloc::{BackgroundState, ClassStats};

use super::change_json::{CompactReport, CompactRequest, LimitRefusal, LimitReport};
use super::compaction;
use super::maintenance::Maintenance;
use super::stat_json::{BackgroundReport, ClassRow, StatReport};

/// A served disk and its server.
pub(crate) struct ServerState {
    disk: Arc<Zram>,
    pub(super) maintenance: Maintenance,
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
        let disk = &self.disk;
        let stat = disk.stat();
        let movability = if disk.config().movability == Movability::On { "on" } else { "off" };
        let used = stat.classes.iter().filter(|class| class.frames_used > 0);
        StatReport {
            uri: self.uri.clone(),
            disksize: disk.size().0,
            comp_algorithm: disk.config().algorithm.to_string(),
            read_only: disk.is_read_only(),
            mm: stat.mm,
            mem_total: stat.memory.mem_total,
            mem_reserved: stat.reserved,
            limit: stat.limit,
            rss: sys::rss::resident_bytes(),
            memory: stat.memory,
            memory_failure: disk.zone().memory_failure_stats(),
            io: stat.io,
            nbd: self.server.stats(),
            classes: used.map(class_row).collect(),
            pagetypeinfo: disk.zone().pagetypeinfo().to_string(),
            buddyinfo: stat.buddyinfo,
            movability: movability.to_owned(),
            vmstat: vmstat(disk, &self.maintenance),
            compaction: stat.compaction,
            background: BackgroundReport {
                state: state_text(stat.background.state).to_owned(),
                cpu_percent: self.maintenance.config.background.unwrap_or(0),
                kept_max: disk.zone().kept().bytes(),
                stats: stat.background,
            },
            balloon: self.maintenance.balloon_report(),
            hot_cache: stat.hot,
        }
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

    /// Compacts objects and frames, as far as requested, within `budget`.
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

/// Returns the counters of the zone and of the balloon by their names in `/proc/vmstat`.
fn vmstat(disk: &Zram, maintenance: &Maintenance) -> BTreeMap<String, u64> {
    let zone = serde_json::to_value(disk.zone().vmstat()).and_then(serde_json::from_value);
    // Every field of `VmStat` is a number.
    let mut counts: BTreeMap<String, u64> = zone.unwrap_or_default();
    let balloon = maintenance.balloon.stats();
    counts.insert("balloon_inflate".to_owned(), balloon.inflated_total);
    counts.insert("balloon_deflate".to_owned(), balloon.deflated_total);
    counts.insert("balloon_migrate".to_owned(), balloon.migrated_total);
    counts
}

fn state_text(state: BackgroundState) -> &'static str {
    match state {
        BackgroundState::Off => "off",
        BackgroundState::Watching => "watching",
        BackgroundState::Working => "working",
        BackgroundState::BackingOff => "backing off",
    }
}
