//! The balloon: its parts, its target, its life.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use frames::{
    BalloonAccount, Budget, FrameCount, MovableOps, Owner, Shrinker, ShrinkerPriority,
    ShrinkerRegistration, Zone,
};
use sync::Mutex;

use crate::MAX_BATCH;
use crate::allocate::CompactionAttempts;
use crate::config::{BalloonConfig, BalloonError, BalloonSource};
use crate::host::{FrameRange, Host};
#[cfg(not(any(loom, shuttle)))]
use crate::inner::Delta;
use crate::inner::{BalloonInner, TargetGeneration};
use crate::outcome::{ResizeReport, StopReason};
use crate::reentrancy::{ReentrancyCheck, ReentrancyGuard};
use crate::stats::BalloonStats;

/// Frames of a zone whose memory the host has. See the crate's page.
///
/// Dropping it gives everything back: the host is told first, then the frames are free.
#[derive(Debug)]
pub struct Balloon {
    pub(crate) zone: Arc<Zone>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) config: BalloonConfig,
    /// Held while the host is told something, so that its messages have an order. Migration only tries it (S-41).
    pub(crate) device: Mutex<()>,
    /// The pages lock.
    pub(crate) inner: Mutex<BalloonInner>,
    /// Threads that are changing the balloon just now.
    pub(crate) reentrancy: ReentrancyCheck,
    pub(crate) owner: Owner,
    pub(crate) account: BalloonAccount,
    _shrinker: ShrinkerRegistration,
}

impl Balloon {
    /// An empty balloon on `zone`, whose memory will go to `host`.
    ///
    /// # Errors
    /// [`BalloonError`]; nothing is left behind.
    pub fn new(
        zone: Arc<Zone>,
        host: Arc<dyn Host>,
        config: BalloonConfig,
    ) -> Result<Arc<Self>, BalloonError> {
        // The number comes first, since it is all that can fail; being called comes last, when there is something to call (L-05).
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

    /// The zone the frames come from.
    #[must_use]
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// The largest target there can be now. For [`BalloonSource::FreeFrames`] what the zone may use, without the reserve that its lowest watermark keeps for others; for
    /// [`BalloonSource::CommittedFrames`] what it holds and nobody uses, and what caches could give up.
    ///
    /// Locking: the zone's locks, for moments.
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

    /// What others could give up. The balloon is a shrinker, too; what it could give up is not what others could.
    pub(crate) fn reclaimable(&self) -> FrameCount {
        FrameCount(self.zone.shrinkable().0.saturating_sub(self.count().0))
    }

    /// Makes the balloon this large, in either direction, and returns when it is, or when it cannot be.
    ///
    /// A target above [`Balloon::max_target`] is cut down to that; the answer says so. Another thread that sets another target meanwhile takes over within one
    /// batch: this call then ends with [`StopReason::Superseded`].
    ///
    /// Locking: call it with no lock of the zone, a pool or a chain held: allocating may make room at the cost of others.
    pub fn set_target(&self, asked: FrameCount) -> ResizeReport {
        self.start_resize(asked).map_or_else(|refused| refused, |resize| resize.run())
    }

    /// The first half of [`Balloon::set_target`]: whoever works for an older target stops within one batch. [`Resize::run`] is the second. So a caller can
    /// note whose target it is in one step with setting it, and not keep others from doing the same for as long as reaching it takes.
    ///
    /// Locking: the zone's locks and the pages lock, for moments.
    ///
    /// # Errors
    /// [`StopReason::Reentered`] for a host that calls back; nothing was changed.
    pub fn start_resize(&self, asked: FrameCount) -> Result<Resize<'_>, ResizeReport> {
        let target = asked.min(self.max_target());
        let Some(guard) = self.reentrancy.enter() else {
            let inner = self.inner.lock();
            return Err(ResizeReport {
                asked,
                target: inner.target(),
                actual: inner.actual(),
                stop: StopReason::Reentered,
            });
        };
        let generation = self.inner.lock().set_target(target);
        Ok(Resize { balloon: self, asked, target, generation, _guard: guard })
    }

    /// Makes what the balloon has its target: whoever works for another one stops within one batch.
    ///
    /// Locking: the pages lock.
    pub fn keep_current_size(&self) {
        self.inner.lock().keep_current_size();
    }

    /// The same, if the target is still this one.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn cancel_resize(&self, generation: TargetGeneration) {
        let mut inner = self.inner.lock();
        if inner.delta(generation) != Delta::Superseded {
            inner.keep_current_size();
        }
    }

    /// Gives all memory back to the zone: a target of zero.
    pub fn deflate(&self) -> ResizeReport {
        self.set_target(FrameCount(0))
    }

    /// Has caches and compaction of the zone give up `want` frames and gives all free memory to the OS at once, without taking any frame.
    /// It says how many frames became free.
    ///
    /// Locking: as [`Balloon::set_target`].
    pub fn reclaim(&self, want: FrameCount) -> FrameCount {
        // Its own shrinker is not meant: from inside it gives nothing.
        let Some(_guard) = self.reentrancy.enter() else { return FrameCount(0) };
        let freed = self.zone.shrink(want, &frames::NoLocksHeld::promise());
        self.zone.trim();
        freed
    }

    /// What it holds and has done.
    ///
    /// Locking: the pages lock.
    #[must_use]
    pub fn stats(&self) -> BalloonStats {
        let inner = self.inner.lock();
        let events = inner.events;
        BalloonStats {
            target: inner.target(),
            actual: inner.actual(),
            blocks: inner.blocks().len() as u64,
            frames: FrameCount((inner.list.len() + inner.isolated.len()) as u64),
            isolated: FrameCount(inner.isolated.len() as u64),
            inflated_total: events.inflated,
            deflated_total: events.deflated,
            migrated_total: events.migrated,
            inflate_messages: events.inflate_messages,
            deflate_messages: events.deflate_messages,
            host_refusals: events.refused,
            allocation_failures: events.failed,
            oom_deflated_total: events.oom_deflated,
            record_bytes: inner.bytes(),
        }
    }

    /// Tells the host where nothing can be undone any more: its panic, which was printed, ends here, and no frame is lost by it.
    pub(crate) fn tell_host_ignoring_panic(&self, ranges: &[FrameRange]) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.host.deflate(ranges)));
    }

    /// Charges what the records take now, and keeps none of an empty balloon.
    pub(crate) fn update_record_bytes(&self, inner: &mut BalloonInner) {
        inner.trim();
        self.account.set_record_bytes(inner.bytes());
    }
}

/// A target that was set and is not reached yet. Dropping it leaves the balloon where it is.
#[derive(Debug)]
#[must_use = "it is set, and nobody works for it"]
pub struct Resize<'b> {
    balloon: &'b Balloon,
    asked: FrameCount,
    target: FrameCount,
    generation: TargetGeneration,
    _guard: ReentrancyGuard<'b>,
}

impl Resize<'_> {
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn generation(&self) -> TargetGeneration {
        self.generation
    }

    /// Makes the balloon as large as the target; see [`Balloon::set_target`].
    ///
    /// After [`StopReason::Isolated`] it may be called again: migration has the frames that are left for a moment only.
    pub fn run(&self) -> ResizeReport {
        let balloon = self.balloon;
        let mut attempts = CompactionAttempts::default();
        let stop = loop {
            if let ControlFlow::Break(stop) = balloon.run_batch(self.generation, &mut attempts) {
                break stop;
            }
        };
        ResizeReport {
            asked: self.asked,
            target: self.target,
            actual: balloon.inner.lock().actual(),
            stop,
        }
    }
}

impl Drop for Balloon {
    /// Nobody is inside: whoever calls back into a balloon keeps it alive. A frame that migration has isolated is let go of too; it is free when
    /// migration drops it.
    fn drop(&mut self) {
        let inner = std::mem::take(&mut *self.inner.lock());
        let frames: Vec<_> = inner.list.iter().chain(inner.isolated.iter()).collect();
        let blocks = inner.blocks().map(FrameRange::block);
        let ranges: Vec<_> = blocks.chain(frames.iter().copied().map(FrameRange::frame)).collect();
        ranges.chunks(MAX_BATCH).for_each(|batch| self.tell_host_ignoring_panic(batch));
        self.account.remove(
            ranges
                .iter()
                .map(|range| range.frames())
                .fold(FrameCount(0), |sum, n| FrameCount(sum.0 + n.0)),
        );
        drop(inner);
        frames.into_iter().for_each(|pfn| self.owner.release(pfn));
        self.zone.release_excess(Budget::unlimited());
    }
}
