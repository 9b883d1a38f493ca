//! Collects the statistics of everything that moves memory of one disk.

use frames::VmStat;
use zram::{HotStat, Movability, Stat, Zram};
use zsmalloc::{BackgroundState, BackgroundStats};

use super::Maintenance;
use super::movement_json::{BackgroundReport, CompactionCounts, HotReport, MovementStats};
use super::server_state::micros;

/// Returns the current statistics.
pub(super) fn report(disk: &Zram, stat: &Stat, maintenance: &Maintenance) -> MovementStats {
    let compaction = &stat.compaction;
    let counts = vmstat(disk.zone().vmstat()).into_iter().chain(maintenance.balloon_vmstat());
    MovementStats {
        movability: if disk.config().movability == Movability::On { "on" } else { "off" }
            .to_owned(),
        vmstat: counts.map(|(name, count)| (name.to_owned(), count)).collect(),
        compaction: CompactionCounts {
            runs: compaction.runs,
            objects_moved: compaction.objects_moved,
            bytes_moved: compaction.bytes_moved,
            frames_freed: compaction.frames_freed,
            zspages_freed: compaction.zspages_freed,
            skipped: compaction.skipped,
            time_us: micros(compaction.time),
        },
        background: background(
            &stat.background,
            maintenance.background_percent(),
            disk.zone().kept().bytes(),
        ),
        balloon: maintenance.balloon_report(),
        hot_cache: hot(&stat.hot),
    }
}

/// Returns every counter with its name.
fn vmstat(stat: VmStat) -> Vec<(&'static str, u64)> {
    vec![
        ("pgmigrate_success", stat.pgmigrate_success),
        ("pgmigrate_fail", stat.pgmigrate_fail),
        ("compact_migrate_scanned", stat.compact_migrate_scanned),
        ("compact_free_scanned", stat.compact_free_scanned),
        ("compact_isolated", stat.compact_isolated),
        ("compact_stall", stat.compact_stall),
        ("compact_fail", stat.compact_fail),
        ("compact_success", stat.compact_success),
        ("compact_daemon_wake", stat.compact_daemon_wake),
        ("compact_deferred", stat.compact_deferred),
        ("pageoutrun", stat.pageoutrun),
        ("allocstall", stat.allocstall),
        ("pgsteal_kswapd", stat.pgsteal_kswapd),
        ("pgsteal_direct", stat.pgsteal_direct),
        ("nr_isolated", stat.nr_isolated),
    ]
}

fn hot(stat: &HotStat) -> HotReport {
    HotReport {
        limit: stat.hot_limit,
        bytes: stat.hot_bytes,
        pages: stat.hot_pages,
        hits: stat.hits,
        admissions: stat.admissions,
        evictions: stat.evictions,
    }
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
