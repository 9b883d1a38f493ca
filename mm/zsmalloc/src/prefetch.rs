//! Prefetching: loads what a later step will touch while this one still works. Cold memory is most
//! of an access's cost.

use frames::Shared;

use crate::handle::{Handle, Location};
use crate::object::ObjectSlot;
use crate::pool::Pool;

impl Pool {
    /// Prefetches the handle's location word, for a later read or free.
    pub fn prefetch(&self, handle: Handle) {
        self.handles.prefetch(handle.index());
    }

    /// Prefetches the records of the object's zspage. Useful some hundred nanoseconds after
    /// [`Pool::prefetch`].
    pub fn prefetch_zspage(&self, handle: Handle) {
        if let Ok(location) = self.handles.locate(handle) {
            self.zspages.chains().prefetch(location.chain());
        }
    }
}

/// Prefetches an object's bytes while its chain is being taken: no load passes a locked
/// instruction.
pub(crate) fn prefetch_object(pool: &Pool, location: Location, len: usize) {
    if let Some(class) = pool.class_of(location.chain()) {
        let slot = ObjectSlot::at(location, class);
        pool.zspages.chains().prefetch_bytes(slot.chain, slot.bytes(len));
    }
}

/// Prefetches the front of an object that is moved next; the CPU's own prefetcher continues from
/// there.
pub(crate) fn prefetch_front(pool: &Pool, slot: ObjectSlot) {
    const AHEAD: usize = 1024;
    let len = slot.class.payload().min(AHEAD);
    pool.zspages.chains().prefetch_bytes(slot.chain, slot.bytes(len));
}

/// Prefetches what moving the objects of `batch` touches besides their bytes: the headers, also of
/// the `next` batch, the descriptors of the frames they leave, and the location words that the
/// headers name.
pub(crate) fn prefetch_moves(
    pool: &Pool,
    source: &Shared<'_>,
    batch: impl Iterator<Item = ObjectSlot> + Clone,
    next: impl Iterator<Item = ObjectSlot>,
) {
    let chains = pool.zspages.chains();
    for slot in batch.clone().chain(next) {
        chains.prefetch_bytes(slot.chain, slot.bytes(0));
    }
    for slot in batch.clone() {
        slot.frames().for_each(|position| chains.prefetch_frame(slot.chain, position));
    }
    batch.filter_map(|slot| slot.header(source)).for_each(|index| pool.handles.prefetch(index));
}
