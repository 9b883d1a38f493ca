//! Resizing: a target is set, then reached batch by batch.

use std::ops::ControlFlow;

use frames::FrameCount;

use crate::allocate::CompactionAttempts;
use crate::balloon::Balloon;
#[cfg(not(any(loom, shuttle)))]
use crate::inner::Delta;
use crate::inner::TargetGeneration;
use crate::outcome::{ResizeReport, StopReason};
use crate::reentrancy::ReentrancyGuard;

impl Balloon {
    /// Resizes the balloon to `asked` frames, and returns when it has that size or cannot reach it.
    ///
    /// A target above [`Balloon::max_target`] is reduced to that; the report says so. If another
    /// thread sets a target meanwhile, this call ends within one batch with
    /// [`StopReason::Superseded`].
    ///
    /// Locking: the caller holds no lock of the zone, a pool or a chain, since allocation may
    /// reclaim from other owners.
    pub fn set_target(&self, asked: FrameCount) -> ResizeReport {
        self.start_resize(asked).map_or_else(|refused| refused, |resize| resize.run())
    }

    /// Sets a target without working towards it; [`Resize::run`] does that. Together they are
    /// [`Balloon::set_target`]. A thread that works towards an older target stops within one batch.
    ///
    /// The two halves let a caller set a target under a lock of its own and release that lock
    /// before the resize.
    ///
    /// Locking: the zone's locks and the pages lock, briefly.
    ///
    /// # Errors
    /// [`StopReason::Reentered`] when the host calls back; nothing was changed.
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

    /// Makes the current size the target, if the target of `generation` is still current.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn cancel_resize(&self, generation: TargetGeneration) {
        let mut inner = self.inner.lock();
        if inner.delta(generation) != Delta::Superseded {
            inner.keep_current_size();
        }
    }

    /// Resizes the balloon to zero, which gives all memory back to the zone.
    pub fn deflate(&self) -> ResizeReport {
        self.set_target(FrameCount(0))
    }
}

/// A target that was set and is not yet reached. Dropping it keeps the size the balloon has by
/// then.
#[derive(Debug)]
#[must_use = "the target is set, but only `run` resizes the balloon"]
pub struct Resize<'b> {
    balloon: &'b Balloon,
    asked: FrameCount,
    target: FrameCount,
    generation: TargetGeneration,
    _guard: ReentrancyGuard<'b>,
}

impl Resize<'_> {
    #[cfg(not(any(loom, shuttle)))]
    /// Returns the generation of the target.
    pub(crate) fn generation(&self) -> TargetGeneration {
        self.generation
    }

    /// Resizes the balloon to the target; see [`Balloon::set_target`].
    ///
    /// After [`StopReason::Isolated`] the caller may run it again: migration returns the remaining
    /// frames soon.
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
