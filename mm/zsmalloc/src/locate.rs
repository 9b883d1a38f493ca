//! Finding the object of a handle while other threads move and free objects.

use frames::ChainId;

use crate::error::AccessError;
use crate::handle::Handle;
use crate::object::ObjectSlot;
use crate::pool::{LockedClass, Pool};

/// Maximum retries of one call. No object moves that often meanwhile.
const MAX_RETRIES: u32 = 1 << 20;

/// Counts how often a call looked for its object and found that it had moved.
#[derive(Default)]
pub(crate) struct Retries(u32);

impl Retries {
    /// Counts a try, and waits before all but the first. After [`MAX_RETRIES`] the tables
    /// contradict themselves, and the pool is poisoned instead of spinning forever (S-24).
    pub(crate) fn note(&mut self, pool: &Pool) -> Result<(), AccessError> {
        if self.0 > 0 {
            sync::relax(self.0);
        }
        self.0 += 1;
        if self.0 > MAX_RETRIES {
            pool.poison();
        }
        pool.check_poison()
    }
}

/// Locks the class of a zspage. Returns `None` when no zspage has this number.
pub(crate) fn lock_class_of(pool: &Pool, chain: ChainId) -> Option<LockedClass<'_>> {
    loop {
        let state = pool.lock(pool.class_of(chain)?);
        // The number may have been freed and used again before the lock was taken.
        if pool.class_of(chain) == Some(state.class()) {
            return Some(state);
        }
    }
}

/// Finds an object and locks its class. The object does not move while the lock is held.
pub(crate) fn lock_object(
    pool: &Pool,
    handle: Handle,
) -> Result<(ObjectSlot, LockedClass<'_>), AccessError> {
    let mut retries = Retries::default();
    loop {
        retries.note(pool)?;
        let location = pool.handles.locate(handle)?;
        // A chain freed between the two loads was emptied first: then the word has changed, too.
        let Some(state) = lock_class_of(pool, location.chain()) else { continue };
        if pool.handles.locate(handle)? == location {
            return Ok((ObjectSlot::at(location, state.class()), state));
        }
    }
}
