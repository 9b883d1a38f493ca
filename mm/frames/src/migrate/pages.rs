//! `migrate_pages`: moves isolated frames, in several passes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::isolated::Isolated;
use super::targets::{MigratedSource, Targets};
use crate::buddy::InFlight;
use crate::zone::{MigrateError, MigrateMode, Zone, add};

/// How often a busy frame is tried.
const MAX_PASSES: u32 = 10;

/// The result of migrating a batch of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// Frames whose content was moved.
    pub migrated: u64,
    /// Frames that their owner had released: they are free and nothing was moved.
    pub gone: u64,
    /// Frames that their owner refused to move; they were put back.
    pub failed: u64,
    /// Frames left in the batch, still isolated: busy, or not tried because no target was left.
    pub again: u64,
    /// Whether it ended early because no target was left.
    pub out_of_frames: bool,
}

/// The result of one attempt at one frame.
enum MigrateOutcome {
    Migrated(InFlight),
    Gone,
    Again,
    Failed,
    OutOfFrames,
}

/// Moves isolated frames: see [`Zone::migrate_pages`].
pub(super) fn migrate_pages<'z>(
    zone: &'z Zone,
    batch: &mut Vec<Isolated<'z>>,
    targets: &mut dyn Targets<'z>,
    mode: MigrateMode,
) -> Migration {
    let mut report = Migration::default();
    for pass in 0..MAX_PASSES {
        // Give busy frames time to become free.
        if let Some(time) = mode.wait_before(pass) {
            sync::pause(time);
        } else if pass > 0 {
            sync::relax(pass);
        }
        migrate_pass(batch, targets, mode, &mut report);
        if batch.is_empty() || report.out_of_frames {
            break;
        }
    }
    report.again = batch.len() as u64;
    let busy = if report.out_of_frames { 0 } else { report.again };
    add(&zone.events().pgmigrate_success, report.migrated);
    add(&zone.events().pgmigrate_fail, report.failed + busy);
    report
}

/// Tries each frame once. Frames to be tried again stay in the batch.
fn migrate_pass<'z>(
    batch: &mut Vec<Isolated<'z>>,
    targets: &mut dyn Targets<'z>,
    mode: MigrateMode,
    report: &mut Migration,
) {
    let mut next = 0;
    while next < batch.len() {
        // A frame that is done leaves the batch; the last frame takes its place.
        match migrate_one(&batch[next], targets, mode) {
            MigrateOutcome::Again => next += 1,
            MigrateOutcome::OutOfFrames => {
                report.out_of_frames = true;
                return;
            }
            MigrateOutcome::Failed => {
                report.failed += 1;
                drop(batch.swap_remove(next));
            }
            MigrateOutcome::Gone => {
                report.gone += 1;
                let gone = batch.swap_remove(next);
                targets.free_source(MigratedSource::new(gone, InFlight::default()));
            }
            MigrateOutcome::Migrated(arrived) => {
                report.migrated += 1;
                targets.free_source(MigratedSource::new(batch.swap_remove(next), arrived));
            }
        }
    }
}

/// Tries to move one frame. Takes a target only when there is something to move; the target is
/// freed unless the move succeeds (L-08, R-069).
fn migrate_one<'z>(
    frame: &Isolated<'z>,
    targets: &mut dyn Targets<'z>,
    mode: MigrateMode,
) -> MigrateOutcome {
    let locked = frame.lock();
    // R-065, S-08, S-09: the owner released the frame after isolation. Its callbacks must not
    // run.
    if !frame.has_owner() {
        return MigrateOutcome::Gone;
    }
    let Some(callbacks) = frame.callbacks() else { return MigrateOutcome::Failed };
    let Some(target) = targets.next(frame.pfn()) else { return MigrateOutcome::OutOfFrames };
    // A target with other references would give the bytes of one frame to two owners.
    if !target.is_fresh_in(locked.allocator()) {
        return MigrateOutcome::Failed;
    }
    let answer = catch_unwind(AssertUnwindSafe(|| callbacks.ops.migrate(&locked, target, mode)));
    // A committed target stays committed, even if the owner panicked after it.
    if let Some(arrived) = locked.take_committed() {
        return MigrateOutcome::Migrated(arrived);
    }
    match answer {
        Ok(Err(MigrateError::Again(_))) => MigrateOutcome::Again,
        Ok(Err(MigrateError::Gone(_))) => MigrateOutcome::Gone,
        Ok(Ok(_) | Err(MigrateError::Failed(_))) | Err(_) => MigrateOutcome::Failed,
    }
}
