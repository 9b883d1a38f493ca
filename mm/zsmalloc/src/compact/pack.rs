//! The zspage that is left of a class: its objects move to its front, so that it keeps no frame it does not need.

use frames::{ChainId, Exclusive, FrameCount};

use super::class::{BATCH, Step, Visit};
use crate::MAX_OBJECT;
use crate::object::Slot;
use crate::pool::{ClassState, Pool};
use crate::zspage::{frames_of, leaves_a_frame};

impl Visit<'_> {
    /// Moves the last objects of a zspage into the holes before them. The class is locked.
    pub(super) fn pack(&mut self, state: &mut ClassState, chain: ChainId) -> Step {
        let (pool, class) = (self.pool, self.class);
        let needed = class.frames_for(state.used);
        let Some(mut held) = pool.zspages.chains().try_exclusive(chain) else {
            self.report.skipped += 1;
            self.pass_over(chain);
            return Step::Again;
        };
        let (mut copy, mut step) = ([0; MAX_OBJECT], Step::Again);
        let live = pool.zspages.live_below(chain, class.objects).take(BATCH);
        let holes = pool.zspages.free(chain, class);
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
            let slot = |object| Slot { chain, object, class };
            let Some(len) = pool.shift(state, &mut held, slot(last), slot(hole), &mut copy) else {
                break;
            };
            moved += 1;
            self.report.bytes_moved += len as u64;
        }
        self.report.objects_moved += moved;
        // Nobody can have left a mark since: marks are made under the class lock.
        let _ = held.release();
        if moved == 0 && step == Step::Again {
            // Packed as far as can be.
            self.pass_over(chain);
        }
        step
    }
}

impl Pool {
    /// Moves the last object of its zspage inside that and gives back the frames it leaves; its length. `None` when it cannot be read, or there is no frame for it.
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
        if held.has_failed(from.bytes(len)) {
            return None;
        }
        let mut over_limit = None;
        if self.attach(held, from.class, to.object, state).is_err() {
            // At the limit: the zone lends what the object gives back when it is gone.
            let below = self.zspages.live_below(from.chain, from.object).next();
            over_limit = leaves_a_frame(from.class, from.object, below)
                .then(|| self.zone.allow_over_limit(FrameCount(1)));
            over_limit.as_ref()?;
            self.attach(held, from.class, to.object, state).ok()?;
        }
        if !to.write(held, handle.index(), &copy[..len]) {
            self.poison();
            return None;
        }
        if held.has_failed(to.bytes(len)) {
            self.detach_empty(held, from.class, frames_of(from.class, to.object), state);
            return None;
        }
        let emptied = self.resettle(state, handle, from, to)?;
        if emptied > 0 {
            self.detach_empty(held, from.class, frames_of(from.class, from.object), state);
        }
        drop(over_limit);
        Some(len)
    }
}
