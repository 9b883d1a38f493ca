//! The part of `GET /v1/stat` about memory that moves: migration, both compactions, maintenance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zram::{HotStat, Movability, Stat, Zram};
use zsmalloc::{BackgroundState, BackgroundStats, CompactionTotals};

use super::balloon_json::BalloonReport;
use super::maintenance::Maintenance;
use crate::durations::micros;

/// Statistics of everything that moves memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MovementStats {
    /// `on`, or `off` when frames cannot move (`--movability off`).
    pub(crate) movability: String,
    /// Counters of migration and frame compaction under their names in `/proc/vmstat`.
    /// `nr_isolated` is a level, the others never fall.
    pub(crate) vmstat: BTreeMap<String, u64>,
    /// All object compactions so far, on demand and in the background.
    pub(crate) compaction: CompactionTotals,
    /// Compaction in the background.
    pub(crate) background: BackgroundReport,
    /// The balloon in the arena.
    pub(crate) balloon: BalloonReport,
    /// Pages kept uncompressed.
    pub(crate) hot_cache: HotStat,
}

/// Compaction in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackgroundReport {
    /// `off`, `watching`, `working`, or `backing off` after work without success.
    pub(crate) state: String,
    /// Limit in percent of one CPU; 0 when it is off.
    pub(crate) cpu_percent: u8,
    /// CPU time used. Units: microseconds.
    pub(crate) cpu_us: u64,
    /// Times it polled how much compaction could free.
    pub(crate) looks: u64,
    /// Slices of work.
    pub(crate) slices: u64,
    /// Objects moved; part of `compaction`.
    pub(crate) objects_moved: u64,
    /// Frames freed; part of `compaction`.
    pub(crate) frames_freed: u64,
    /// Frames moved by frame compaction.
    #[serde(default)]
    pub(crate) frames_moved: u64,
    /// Frames returned to the OS, in whole 2 MiB blocks.
    #[serde(default)]
    pub(crate) frames_released: u64,
    /// Memory that wholly free 2 MiB blocks keep for the next writes, at most. Units: bytes.
    #[serde(default)]
    pub(crate) kept_max: u64,
    /// Frames that compaction could free at the last poll.
    pub(crate) frames_freeable: u64,
}

/// Returns the current statistics.
pub(super) fn report(disk: &Zram, stat: &Stat, maintenance: &Maintenance) -> MovementStats {
    MovementStats {
        movability: if disk.config().movability == Movability::On { "on" } else { "off" }
            .to_owned(),
        vmstat: vmstat(disk, maintenance),
        compaction: stat.compaction,
        background: background(
            &stat.background,
            maintenance.background_percent(),
            disk.zone().kept().bytes(),
        ),
        balloon: maintenance.balloon_report(),
        hot_cache: stat.hot,
    }
}

/// Returns the counters of the zone and of the balloon by their names in `/proc/vmstat`.
fn vmstat(disk: &Zram, maintenance: &Maintenance) -> BTreeMap<String, u64> {
    let zone = serde_json::to_value(disk.zone().vmstat()).and_then(serde_json::from_value);
    // Every field of `VmStat` is a number.
    let mut counts: BTreeMap<String, u64> = zone.unwrap_or_default();
    counts.extend(maintenance.balloon_vmstat().map(|(name, count)| (name.to_owned(), count)));
    counts
}

fn background(stats: &BackgroundStats, cpu_percent: u8, kept_max: u64) -> BackgroundReport {
    let state = match stats.state {
        BackgroundState::Off => "off",
        BackgroundState::Watching => "watching",
        BackgroundState::Working => "working",
        BackgroundState::BackingOff => "backing off",
    };
    BackgroundReport {
        state: state.to_owned(),
        cpu_percent,
        cpu_us: micros(stats.cpu),
        looks: stats.polls,
        slices: stats.slices,
        objects_moved: stats.objects_moved,
        frames_freed: stats.frames_freed,
        frames_moved: stats.frames_moved,
        frames_released: stats.frames_released,
        kept_max,
        frames_freeable: stats.frames_freeable,
    }
}
