//! The balloon: its parts, its target, its life.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use frames::{
    BalloonAccount, Budget, FrameCount, MovableOps, Owner, Shrinker, ShrinkerPriority,
    ShrinkerRegistration, Zone,
};
use sync::Mutex;

use crate::BATCH;
use crate::adjust::Step;
use crate::allocate::Scattered;
use crate::config::{BalloonConfig, BalloonError, Lends};
#[cfg(not(any(loom, shuttle)))]
use crate::held::Gap;
use crate::held::{Goal, Held};
use crate::host::{Host, Piece};
use crate::inside::{Entered, Inside};
use crate::outcome::{Change, Stop};
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
    pub(crate) held: Mutex<Held>,
    /// Threads that are changing the balloon just now.
    pub(crate) inside: Inside,
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
                held: Mutex::ranked(sync::Rank::Leaf, Held::default()),
                inside: Inside::default(),
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

    /// The largest target there can be now. For [`Lends::Room`] what the zone may use, without the reserve that its lowest watermark keeps for others; for
    /// [`Lends::Memory`] what it holds and nobody uses, and what caches could give up.
    ///
    /// Locking: the zone's locks, for moments.
    #[must_use]
    pub fn most(&self) -> FrameCount {
        let stats = self.zone.stats();
        match self.config.lends {
            Lends::Room => {
                let usable = stats.limit.map_or(stats.capacity, |limit| limit.min(stats.capacity));
                FrameCount(usable.0.saturating_sub(self.zone.watermarks().min.0))
            }
            Lends::Memory => {
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
    /// A target above [`Balloon::most`] is cut down to that; the answer says so. Another thread that sets another target meanwhile takes over within one
    /// batch: this call then ends with [`Stop::Superseded`].
    ///
    /// Locking: call it with no lock of the zone, a pool or a chain held: allocating may make room at the cost of others.
    pub fn set_target(&self, asked: FrameCount) -> Change {
        self.aim(asked).map_or_else(|refused| refused, |aim| aim.reach())
    }

    /// The first half of [`Balloon::set_target`]: whoever works for an older target stops within one batch. [`Aim::reach`] is the second. So a caller can
    /// note whose target it is in one step with setting it, and not keep others from doing the same for as long as reaching it takes.
    ///
    /// Locking: the zone's locks and the pages lock, for moments.
    ///
    /// # Errors
    /// [`Stop::Reentered`] for a host that calls back; nothing was changed.
    pub fn aim(&self, asked: FrameCount) -> Result<Aim<'_>, Change> {
        let target = asked.min(self.most());
        let Some(inside) = self.inside.enter() else {
            let held = self.held.lock();
            return Err(Change {
                asked,
                target: held.target(),
                actual: held.actual(),
                stop: Stop::Reentered,
            });
        };
        let goal = self.held.lock().aim(target);
        Ok(Aim { balloon: self, asked, target, goal, _inside: inside })
    }

    /// Makes what the balloon has its target: whoever works for another one stops within one batch.
    ///
    /// Locking: the pages lock.
    pub fn stay(&self) {
        self.held.lock().stay();
    }

    /// The same, if the target is still this one.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn give_up(&self, goal: Goal) {
        let mut held = self.held.lock();
        if held.gap(goal) != Gap::Superseded {
            held.stay();
        }
    }

    /// Gives all memory back to the zone: a target of zero.
    pub fn deflate(&self) -> Change {
        self.set_target(FrameCount(0))
    }

    /// Has caches and compaction of the zone give up `want` frames and gives all free memory to the OS at once, without taking any frame.
    /// It says how many frames became free.
    ///
    /// Locking: as [`Balloon::set_target`].
    pub fn squeeze(&self, want: FrameCount) -> FrameCount {
        // Its own shrinker is not meant: from inside it gives nothing.
        let Some(_inside) = self.inside.enter() else { return FrameCount(0) };
        let freed = self.zone.shrink(want, &frames::NoLocksHeld::promise());
        self.zone.trim();
        freed
    }

    /// What it holds and has done.
    ///
    /// Locking: the pages lock.
    #[must_use]
    pub fn stats(&self) -> BalloonStats {
        let held = self.held.lock();
        let events = held.events;
        BalloonStats {
            target: held.target(),
            actual: held.actual(),
            blocks: held.blocks().len() as u64,
            frames: FrameCount((held.list.len() + held.isolated.len()) as u64),
            isolated: FrameCount(held.isolated.len() as u64),
            inflated_total: events.inflated,
            deflated_total: events.deflated,
            migrated_total: events.migrated,
            inflate_messages: events.inflate_messages,
            deflate_messages: events.deflate_messages,
            host_refusals: events.refused,
            allocation_failures: events.failed,
            oom_deflated_total: events.oom_deflated,
            record_bytes: held.bytes(),
        }
    }

    /// Tells the host where nothing can be undone any more: its panic, which was printed, ends here, and no frame is lost by it.
    pub(crate) fn tell_for_sure(&self, pieces: &[Piece]) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.host.deflate(pieces)));
    }

    /// Charges what the records take now, and keeps none of an empty balloon.
    pub(crate) fn settle_records(&self, held: &mut Held) {
        held.trim();
        self.account.set_record_bytes(held.bytes());
    }
}

/// A target that was set and is not reached yet. Dropping it leaves the balloon where it is.
#[derive(Debug)]
#[must_use = "it is set, and nobody works for it"]
pub struct Aim<'b> {
    balloon: &'b Balloon,
    asked: FrameCount,
    target: FrameCount,
    goal: Goal,
    _inside: Entered<'b>,
}

impl Aim<'_> {
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn goal(&self) -> Goal {
        self.goal
    }

    /// Makes the balloon as large as the target; see [`Balloon::set_target`].
    ///
    /// After [`Stop::Isolated`] it may be called again: migration has the frames that are left for a moment only.
    pub fn reach(&self) -> Change {
        let balloon = self.balloon;
        let mut scattered = Scattered::default();
        let stop = loop {
            if let Step::Stopped(stop) = balloon.step(self.goal, &mut scattered) {
                break stop;
            }
        };
        Change {
            asked: self.asked,
            target: self.target,
            actual: balloon.held.lock().actual(),
            stop,
        }
    }
}

impl Drop for Balloon {
    /// Nobody is inside: whoever calls back into a balloon keeps it alive. A frame that migration has isolated is let go of too; it is free when
    /// migration drops it.
    fn drop(&mut self) {
        let held = std::mem::take(&mut *self.held.lock());
        let frames: Vec<_> = held.list.iter().chain(held.isolated.iter()).collect();
        let blocks = held.blocks().map(Piece::block);
        let pieces: Vec<_> = blocks.chain(frames.iter().copied().map(Piece::frame)).collect();
        pieces.chunks(BATCH).for_each(|batch| self.tell_for_sure(batch));
        self.account.remove(
            pieces
                .iter()
                .map(|piece| piece.frames())
                .fold(FrameCount(0), |sum, n| FrameCount(sum.0 + n.0)),
        );
        drop(held);
        frames.into_iter().for_each(|pfn| self.owner.release(pfn));
        self.zone.release_excess(Budget::unlimited());
    }
}
