//! An object between its allocation and the publication of its handle.

use frames::Exclusive;

use crate::error::AllocError;
use crate::free::free_deferred;
use crate::handle::{Handle, Location};
use crate::object::ObjectSlot;
use crate::pool::Pool;

/// An object whose bit is set, with its chain held exclusively: no other thread can access it yet.
pub(crate) struct UnpublishedObject<'p> {
    pub(super) pool: &'p Pool,
    pub(crate) slot: ObjectSlot,
    pub(crate) held: Exclusive<'p>,
    pub(super) handle: Handle,
    pub(super) len: usize,
}

impl UnpublishedObject<'_> {
    /// Writes the object. Returns `None`, with the slot freed, when its memory has failed.
    pub(crate) fn write(mut self, bytes: &[u8]) -> Result<Option<Self>, AllocError> {
        debug_assert_eq!(bytes.len(), self.len);
        let Self { pool, slot, len, .. } = self;
        if !slot.write(&mut self.held, self.handle.index(), (bytes, &[])) {
            pool.poison();
            return Err(AllocError::Poisoned);
        }
        if !self.held.has_failed(slot.bytes(len)) {
            return Ok(Some(self));
        }
        // Lock order, chain before class: this thread holds the chain and waits for the class. A
        // holder of the class lock waits for no chain.
        let freed = pool.lock(slot.class).free_object(slot, len);
        free_deferred(pool, slot.chain, self.held.release());
        freed.map(|()| None).map_err(|_| AllocError::Poisoned)
    }

    /// Publishes the handle of the written object and releases its chain.
    pub(crate) fn publish(self) {
        let Self { pool, slot, held, handle, len } = self;
        let location = Location::live(slot.chain, slot.object, handle.generation());
        pool.handles.publish(handle, location, len);
        free_deferred(pool, slot.chain, held.release());
    }
}
