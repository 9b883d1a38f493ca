//! The balloon: its settings, its state, its target, its creation and its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use frames::{
    BalloonAccount, Budget, FrameCount, MovableOps, Owner, OwnersExhausted, Shrinker,
    ShrinkerPriority, ShrinkerRegistration, Zone,
};
use sync::Mutex;
use thiserror::Error;

use crate::MAX_BATCH;
use crate::host::{FrameRange, Host};
use crate::inner::BalloonInner;
use crate::reentrancy::ReentrancyCheck;
use crate::report::BalloonStats;

/// The allocation unit of a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonUnit {
    /// Whole pageblocks of 2 MiB while there are any, then single frames. Huge pages stay whole.
    BlocksFirst,
    /// Single frames only, for machines where huge pages are off.
    Frames,
}

/// The frames a balloon may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonSource {
    /// All free frames: committed ones first, then those without memory. For zones with a limit on
    /// what their users may have, which the balloon then reduces by its size.
    FreeFrames,
    /// Free committed frames only. For zones without a limit: untouched frames hold no memory.
    CommittedFrames,
}

/// Settings of a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalloonConfig {
    /// The allocation unit: pageblocks or frames.
    pub unit: BalloonUnit,
    /// Which memory may be taken.
    pub source: BalloonSource,
    /// The least number of frames it gives back at once when the zone is out of memory (the
    /// kernel's `oom_pages`); zero for never.
    pub oom_frames: FrameCount,
}

impl Default for BalloonConfig {
    fn default() -> Self {
        Self {
            unit: BalloonUnit::BlocksFirst,
            source: BalloonSource::FreeFrames,
            oom_frames: FrameCount(256),
        }
    }
}

/// The error of creating a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BalloonError {
    /// The zone has no owner ID left.
    #[error("cannot create a balloon: {0}")]
    Owners(#[from] OwnersExhausted),
}

/// Frames of a zone whose memory the host has. The crate's page describes the protocol.
///
/// Dropping it gives everything back: first the host is told, then the frames are freed.
#[derive(Debug)]
pub struct Balloon {
    pub(crate) zone: Arc<Zone>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) config: BalloonConfig,
    /// The device lock, held while the host is called. Migration only tries it (S-41).
    pub(crate) device: Mutex<()>,
    /// The pages lock.
    pub(crate) inner: Mutex<BalloonInner>,
    /// The threads that are changing the balloon.
    pub(crate) reentrancy: ReentrancyCheck,
    pub(crate) owner: Owner,
    pub(crate) account: BalloonAccount,
    _shrinker: ShrinkerRegistration,
}

impl Balloon {
    /// Creates an empty balloon on `zone` that gives memory to `host`.
    ///
    /// # Errors
    /// [`BalloonError`] when the zone has no owner ID left; nothing is registered then.
    pub fn new(
        zone: Arc<Zone>,
        host: Arc<dyn Host>,
        config: BalloonConfig,
    ) -> Result<Arc<Self>, BalloonError> {
        // Reserving the owner ID is all that can fail, so it comes first. Publishing the callbacks
        // comes last, when the balloon is complete (L-05).
        let owner = zone.reserve_owner()?;
        let balloon = Arc::new_cyclic(|this: &Weak<Self>| {
            let this: Weak<dyn Shrinker> = this.clone();
            Self {
                _shrinker: zone.register_shrinker(ShrinkerPriority::Balloon, this),
                account: zone.balloon_account(),
                zone,
                host,
                config,
                device: Mutex::ranked(sync::Rank::Device, ()),
                inner: Mutex::ranked(sync::Rank::Leaf, BalloonInner::default()),
                reentrancy: ReentrancyCheck::default(),
                owner,
            }
        });
        let ops: Arc<dyn MovableOps> = balloon.clone();
        balloon.owner.publish(Arc::downgrade(&ops));
        Ok(balloon)
    }

    /// Returns the zone that the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// Returns the largest target that is possible now.
    ///
    /// - [`BalloonSource::FreeFrames`]: the frames the zone may use, less the reserve below its
    ///   lowest watermark.
    /// - [`BalloonSource::CommittedFrames`]: the free committed frames of the zone, the balloon's
    ///   own, and what the other shrinkers could free.
    ///
    /// Locking: the zone's locks, briefly.
    #[must_use]
    pub fn max_target(&self) -> FrameCount {
        let stats = self.zone.stats();
        match self.config.source {
            BalloonSource::FreeFrames => {
                let usable = stats.limit.map_or(stats.capacity, |limit| limit.min(stats.capacity));
                FrameCount(usable.0.saturating_sub(self.zone.watermarks().min.0))
            }
            BalloonSource::CommittedFrames => {
                let others = stats.in_use.0.saturating_sub(self.stats().actual.0);
                FrameCount((stats.committed.0 + self.reclaimable().0).saturating_sub(others))
            }
        }
    }

    /// Returns how many frames the other shrinkers of the zone could free. The balloon is a
    /// shrinker, too, so its own count is subtracted.
    pub(crate) fn reclaimable(&self) -> FrameCount {
        FrameCount(self.zone.shrinkable().0.saturating_sub(self.count().0))
    }

    /// Makes the current size the target. A thread that resizes stops within one batch.
    ///
    /// Locking: the pages lock.
    pub fn keep_current_size(&self) {
        self.inner.lock().keep_current_size();
    }

    /// Asks the zone's other shrinkers for `want` frames and decommits all free memory. The balloon
    /// itself takes no frame. Returns how many frames became free.
    ///
    /// Locking: as [`Balloon::set_target`].
    pub fn reclaim(&self, want: FrameCount) -> FrameCount {
        // The guard makes the balloon's own shrinker return nothing.
        let Some(_guard) = self.reentrancy.enter() else { return FrameCount(0) };
        let freed = self.zone.shrink(want, &frames::NoLocksHeld::promise());
        self.zone.trim();
        freed
    }

    /// Returns a snapshot of sizes and counts.
    ///
    /// Locking: the pages lock.
    #[must_use]
    pub fn stats(&self) -> BalloonStats {
        self.inner.lock().stats()
    }

    /// Tells the host to give memory back at a point that cannot be undone: a panic of the host is
    /// caught, so that no frame is lost. The panic was printed already.
    pub(crate) fn tell_host_ignoring_panic(&self, ranges: &[FrameRange]) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.host.deflate(ranges)));
    }

    /// Updates the zone's charge for the balloon's records. An empty balloon keeps no records.
    pub(crate) fn update_record_bytes(&self, inner: &mut BalloonInner) {
        inner.trim();
        self.account.set_record_bytes(inner.bytes());
    }
}

impl Drop for Balloon {
    /// tells the host, then releases all frames. No other thread uses the balloon, since its
    /// callbacks hold a reference to it. A frame that migration has isolated is released, too; it
    /// becomes free when migration drops it.
    fn drop(&mut self) {
        let inner = std::mem::take(&mut *self.inner.lock());
        let frames: Vec<_> = inner.list.iter().chain(inner.isolated.iter()).collect();
        let blocks = inner.blocks().map(FrameRange::block);
        let ranges: Vec<_> = blocks.chain(frames.iter().copied().map(FrameRange::frame)).collect();
        ranges.chunks(MAX_BATCH).for_each(|batch| self.tell_host_ignoring_panic(batch));
        self.account.remove(inner.actual());
        drop(inner);
        frames.into_iter().for_each(|pfn| self.owner.release(pfn));
        self.zone.release_excess(Budget::unlimited());
    }
}
