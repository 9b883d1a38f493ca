//! Packing the last partial zspage of a class: its last objects move to its own front.

use std::ops::ControlFlow;

use frames::{ChainId, Exclusive, FrameCount};

use super::class::{ClassCompaction, MAX_BATCH};
use super::object::{lookup, relocate_object};
use crate::class::MAX_OBJECT;
use crate::object::ObjectSlot;
use crate::pool::LockedClass;
use crate::stats::CompactionOutcome;

impl ClassCompaction<'_> {
    /// Packs the last partial zspage: moves its last objects into the free slots before them.
    pub(super) fn pack(
        &mut self,
        state: &mut LockedClass<'_>,
        chain: ChainId,
    ) -> ControlFlow<CompactionOutcome> {
        let (pool, class) = (self.pool, self.class);
        let needed = state.frames_needed();
        // Dropping it ignores a pending mark: new marks need the class lock, which is held, and
        // the previous holder does the work of old ones.
        let Some(mut held) = pool.zspages.chains.try_exclusive(chain) else {
            return self.skip_and_count(chain);
        };
        let mut copy = [0; MAX_OBJECT];
        let live = pool.zspages.live_below(chain, class.objects).take(MAX_BATCH);
        let holes = pool.zspages.free(chain, class);
        let mut moved = 0;
        for (last, hole) in live.zip(holes).filter(|(last, hole)| hole < last) {
            if self.deadline.has_passed() {
                return ControlFlow::Break(CompactionOutcome::OutOfTime);
            }
            if state.counters().frames <= needed {
                return ControlFlow::Break(CompactionOutcome::Done);
            }
            let slot = |object| ObjectSlot { chain, object, class };
            let Some(len) = move_within_zspage(state, &mut held, slot(last), slot(hole), &mut copy)
            else {
                break;
            };
            moved += 1;
            self.report.objects_moved += 1;
            self.report.bytes_moved += len as u64;
        }
        // Without a move it is packed as far as possible.
        if moved == 0 { self.skip_zspage(chain) } else { ControlFlow::Continue(()) }
    }
}

/// Moves the last object of a zspage to a free slot in it and detaches the frames it leaves.
/// Returns its length, or `None` when it cannot be read or no frame is free for it.
fn move_within_zspage(
    state: &mut LockedClass<'_>,
    held: &mut Exclusive<'_>,
    from: ObjectSlot,
    to: ObjectSlot,
    copy: &mut [u8; MAX_OBJECT],
) -> Option<usize> {
    let pool = state.pool;
    let (handle, len) = lookup(pool, from, from.header_exclusive(held)?)?;
    from.copy_out(held, &mut copy[..len])?;
    if held.has_failed(from.bytes(len)) {
        return None;
    }
    let mut over_limit = None;
    if state.attach_frames(held, to.object).is_err() {
        // At the limit, exceed it by the frame that this move frees again.
        let below = pool.zspages.live_below(from.chain, from.object).next();
        if !from.class.empties_frame(from.object, below) {
            return None;
        }
        over_limit = Some(pool.zone.allow_over_limit(FrameCount(1)));
        state.attach_frames(held, to.object).ok()?;
    }
    if !to.write(held, handle.index(), (&copy[..len], &[])) {
        pool.poison();
        return None;
    }
    if held.has_failed(to.bytes(len)) {
        state.detach_empty_frames(held, to.class.frames_of(to.object));
        return None;
    }
    let emptied = relocate_object(state, (handle, len), from, to)?;
    if emptied > 0 {
        state.detach_empty_frames(held, from.class.frames_of(from.object));
    }
    drop(over_limit);
    Some(len)
}
