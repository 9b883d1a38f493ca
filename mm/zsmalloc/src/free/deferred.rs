//! Deferred frees: the work that a free leaves to the last holder of a chain.

use frames::{ChainId, ReleaseStatus};

use crate::locate::lock_class_of;
use crate::pool::Pool;

/// Does the deferred free of a chain if releasing it returned a pending mark: frees its empty
/// frames, and the zspage itself when it is empty. The caller holds no class lock.
pub(crate) fn free_deferred(pool: &Pool, chain: ChainId, leaving: ReleaseStatus) {
    if leaving != ReleaseStatus::Pending {
        return;
    }
    // The number may name a newer zspage by now. Freeing that zspage's empty frames does no harm.
    if let Some(mut class) = lock_class_of(pool, chain) {
        class.release_empty_frames(chain);
        drop(class);
        pool.zspages.chains().release_excess_if_due();
    }
}
