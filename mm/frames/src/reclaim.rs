//! Reclaim: owners free frames when memory is short.
//!
//! A request calls shrinkers itself ([`Zone::reclaim_direct`]); the [`Kswapd`] thread calls them
//! before a request has to.

mod kswapd;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

pub use kswapd::{Kswapd, KswapdError};

use crate::units::FrameCount;
use crate::zone::{NoLocksHeld, Shrinker, ShrinkerPriority, Zone, add};

/// A registered shrinker. Dropping it ends the registration; a running call keeps the shrinker's
/// value alive until it returns.
#[derive(Debug)]
pub struct ShrinkerRegistration {
    zone: Arc<Zone>,
    id: u64,
}

impl Zone {
    /// Registers a shrinker.
    pub fn register_shrinker(
        self: &Arc<Self>,
        priority: ShrinkerPriority,
        shrinker: Weak<dyn Shrinker>,
    ) -> ShrinkerRegistration {
        let id = self.shrinkers().add(priority, shrinker);
        ShrinkerRegistration { zone: Arc::clone(self), id }
    }

    /// Returns an estimate of the frames that all shrinkers together could free.
    #[must_use]
    pub fn shrinkable(&self) -> FrameCount {
        let shrinkers = self.shrinkers().snapshot().into_iter();
        let counts = shrinkers.map(|shrinker| catch_panic(|| shrinker.count()));
        FrameCount(counts.fold(0, u64::saturating_add))
    }

    /// Calls shrinkers, in the order of their priority, until they have freed `want` frames.
    /// Returns how many they freed. In a poisoned zone it calls none: the freed frames would be
    /// lost.
    ///
    /// Locking: no lock is held while they run.
    pub fn shrink(&self, want: FrameCount, promise: &NoLocksHeld) -> FrameCount {
        if self.is_poisoned() {
            return FrameCount(0);
        }
        let mut freed = 0_u64;
        for shrinker in self.shrinkers().snapshot() {
            if freed >= want.0 {
                break;
            }
            let target = FrameCount(want.0 - freed);
            freed = freed.saturating_add(catch_panic(|| shrinker.scan(target, promise)));
        }
        FrameCount(freed)
    }

    /// Calls shrinkers for a request that would be refused: [`Zone::shrink`], counted as a stall.
    ///
    /// Locking: no lock is held while they run.
    pub fn reclaim_direct(&self, want: FrameCount, promise: &NoLocksHeld) -> FrameCount {
        add(&self.events().allocstall, 1);
        let freed = self.shrink(want, promise);
        add(&self.events().pgsteal_direct, freed.0);
        freed
    }
}

impl Drop for ShrinkerRegistration {
    fn drop(&mut self) {
        self.zone.shrinkers().remove(self.id);
    }
}

/// Returns what a call freed: nothing if it panics.
fn catch_panic(call: impl FnOnce() -> FrameCount) -> u64 {
    catch_unwind(AssertUnwindSafe(call)).map_or(0, |frames| frames.0)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
