//! Frames whose memory has failed: they leave the free lists and are retired (R-025, S-38).

use super::Buddy;
use super::tables::Tables;
use crate::page::State;
use crate::units::{Order, Pfn};

impl Buddy {
    /// Removes a free frame from its list and retires it. Does nothing when it is not free or the
    /// zone is poisoned.
    pub(crate) fn offline_if_free(&mut self, tables: &Tables, pfn: Pfn) {
        if !self.is_poisoned() && tables.blocks.is_free(pfn) {
            let (head, _) = tables.free_block_of(pfn);
            self.cut(tables, head, pfn, 1);
            self.retire_frame(tables, pfn);
        }
    }

    /// Frees the frames of a block that have not failed and retires the others. Returns `false`,
    /// with nothing changed, when none has failed.
    pub(crate) fn free_around_failed(
        &mut self,
        tables: &Tables,
        pfn: Pfn,
        order: Order,
        was: State,
    ) -> bool {
        let frames = || (0..order.frames()).map(|step| pfn.plus(step));
        let has_failed = |pfn: &Pfn| tables.failed.contains(pfn.index());
        if !frames().any(|pfn| has_failed(&pfn)) {
            return false;
        }
        tables.frames.change(pfn, was, State::INSIDE);
        let (failed, healthy): (Vec<Pfn>, Vec<Pfn>) = frames().partition(has_failed);
        failed.into_iter().for_each(|pfn| self.retire_frame(tables, pfn));
        healthy.into_iter().for_each(|pfn| self.free_inside(tables, pfn, Order::SINGLE));
        true
    }

    /// Retires a charged frame that is "inside": it is never used again.
    fn retire_frame(&mut self, tables: &Tables, pfn: Pfn) {
        tables.frames.change(pfn, State::INSIDE, State::RETIRED);
        self.retired += 1;
    }
}
