//! The zspage that is left of a class: its objects move to its front, so that it keeps no frame it does not need.

use frames::{Exclusive, ExtentId};

use super::class::{BATCH, Step, Visit};
use crate::MAX_OBJECT;
use crate::object::Slot;
use crate::pool::{ClassState, Pool};
use crate::zspage::frames_of;

impl Visit<'_> {
    /// Moves the last objects of a zspage into the holes before them. The class is locked.
    pub(super) fn pack(&mut self, state: &mut ClassState, extent: ExtentId) -> Step {
        let (pool, class) = (self.pool, self.class);
        let needed = class.frames_for(state.used);
        let Some(mut held) = pool.zspages.extents().try_exclusive(extent) else {
            self.report.skipped += 1;
            self.pass_over(extent);
            return Step::Again;
        };
        let (mut copy, mut step) = ([0; MAX_OBJECT], Step::Again);
        let live = pool.zspages.live_below(extent, class.objects).take(BATCH);
        let holes = pool.zspages.free(extent, class);
        let mut moved = 0;
        for (last, hole) in live.zip(holes).filter(|(last, hole)| hole < last) {
            if self.deadline.has_passed() {
                step = Step::OutOfTime;
                break;
            }
            if state.frames <= needed {
                step = Step::Finished;
                break;
            }
            let slot = |object| Slot { extent, object, class };
            let Some(len) = pool.shift(state, &mut held, slot(last), slot(hole), &mut copy) else { break };
            moved += 1;
            self.report.bytes_moved += len as u64;
        }
        self.report.objects_moved += moved;
        // Nobody can have left a mark since: marks are made under the class lock.
        let _ = held.release();
        if moved == 0 && step == Step::Again {
            // Packed as far as can be.
            self.pass_over(extent);
        }
        step
    }
}

impl Pool {
    /// Moves one object inside its zspage and gives back the frames it leaves; its length. `None` when it cannot be read, or there is no frame for it.
    fn shift(
        &self,
        state: &mut ClassState,
        held: &mut Exclusive<'_>,
        from: Slot,
        to: Slot,
        copy: &mut [u8; MAX_OBJECT],
    ) -> Option<usize> {
        let (handle, len) = self.resident_as(from, from.header_alone(held)?)?;
        from.copy_out(held, &mut copy[..len])?;
        self.attach(held, from.class, to.object, state).ok()?;
        if !to.write(held, handle.index(), &copy[..len]) {
            self.poison();
            return None;
        }
        let emptied = self.resettle(state, handle, from, to)?;
        if emptied > 0 {
            self.detach_empty(held, from.class, frames_of(from.class, from.object), state);
        }
        Some(len)
    }
}
