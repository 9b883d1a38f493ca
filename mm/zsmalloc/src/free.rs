//! Freeing: clear the object at once, free its frames as soon as no reader holds them.
//!
//! A free changes bits under the class lock and touches no cold memory. The bytes of a freed
//! object stay while a reader holds its chain, because reusing them needs the chain exclusively.
//! If the chain is held when frames could be freed, the free leaves a pending mark, and the last
//! holder to leave calls [`free_deferred`] (deferred free: ).

mod release;
mod deferred;

use crate::error::AccessError;
use crate::handle::Handle;
use crate::locate::lock_object;
use crate::pool::Pool;

pub(crate) use deferred::free_deferred;

impl Pool {
    /// Frees an object and returns its length. Units: bytes. Never waits for a reader.
    ///
    /// # Errors
    /// - [`AccessError::Stale`] when the object was freed before: a double free changes nothing
    ///
    /// - [`AccessError::Poisoned`] when the pool is poisoned.
    pub fn free(&self, handle: Handle) -> Result<usize, AccessError> {
        let (slot, mut class) = lock_object(self, handle)?;
        let len = self.handles.len_of(handle);
        self.handles.invalidate(handle);
        let freed = class.free_object(slot, len);
        drop(class);
        self.handles.free_index(handle);
        self.zspages.chains().release_excess_if_due();
        freed.map(|()| len)
    }
}
