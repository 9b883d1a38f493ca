//! Resizing: a target is set, then reached one batch at a time.
//!
//! ```text
//!  inflate:  allocate (no lock held) -> device lock -> host.inflate -> blocks and list -> unlock
//!  deflate:  device lock -> out of list and blocks -> host.deflate -> unlock -> frames are free
//! ```
//! The frames of a batch are values owned by one thread while the host is called, so no other
//! thread can isolate or use them. They become movable only after the host has agreed: a refusal is
//! undone by dropping the batch.

use std::ops::ControlFlow;

use frames::{Frame, FrameCount};

use crate::MAX_BATCH;
use crate::allocate::{BLOCK_FRAMES, CompactionAttempts, FrameBatch};
use crate::balloon::Balloon;
use crate::host::{FrameRange, InflateBatch};
use crate::inner::{BalloonInner, Delta, TargetGeneration};
use crate::reentrancy::ReentrancyGuard;
use crate::report::{ResizeReport, StopReason};

/// A target that was set and is not yet reached. Dropping it keeps the current size.
#[derive(Debug)]
#[must_use = "the target is set, but only `run` resizes the balloon"]
pub struct Resize<'b> {
    balloon: &'b Balloon,
    asked: FrameCount,
    target: FrameCount,
    pub(crate) generation: TargetGeneration,
    _guard: ReentrancyGuard<'b>,
}

impl Resize<'_> {
    /// Resizes the balloon to the target; see [`Balloon::set_target`].
    ///
    /// After [`StopReason::Isolated`] the caller may run it again: migration returns frames soon.
    pub fn run(&self) -> ResizeReport {
        let (balloon, asked, target) = (self.balloon, self.asked, self.target);
        let mut attempts = CompactionAttempts::ALL;
        let stop = loop {
            if let ControlFlow::Break(stop) = balloon.run_batch(self.generation, &mut attempts) {
                break stop;
            }
        };
        ResizeReport { asked, target, actual: balloon.inner.lock().actual(), stop }
    }
}

impl Balloon {
    /// Resizes the balloon to `asked` frames, and returns when it has that size or cannot reach it.
    ///
    /// A target above [`Balloon::max_target`] is reduced to that; the report says so. If another
    /// thread sets a target meanwhile, this call ends within one batch with
    /// [`StopReason::Superseded`].
    ///
    /// Locking: the caller holds no lock of the zone, a pool or a chain, since allocation may
    /// reclaim from other owners (R-151).
    pub fn set_target(&self, asked: FrameCount) -> ResizeReport {
        self.start_resize(asked).map_or_else(|refused| refused, |resize| resize.run())
    }

    /// Sets a target without working towards it; [`Resize::run`] does that. Together they are
    /// [`Balloon::set_target`]. A thread that works towards an older target stops within one batch.
    ///
    /// So a caller can set a target under a lock of its own, released before the resize.
    ///
    /// Locking: the zone's locks and the pages lock, briefly.
    ///
    /// # Errors
    /// [`StopReason::Reentered`] when the host calls back; nothing was changed.
    pub fn start_resize(&self, asked: FrameCount) -> Result<Resize<'_>, ResizeReport> {
        let target = asked.min(self.max_target());
        let guard = self.reentrancy.enter();
        let mut inner = self.inner.lock();
        let Some(guard) = guard else {
            let (target, actual) = (inner.target(), inner.actual());
            return Err(ResizeReport { asked, target, actual, stop: StopReason::Reentered });
        };
        let generation = inner.set_target(target);
        Ok(Resize { balloon: self, asked, target, generation, _guard: guard })
    }

    /// Resizes the balloon to zero, which gives all memory back to the zone.
    pub fn deflate(&self) -> ResizeReport {
        self.set_target(FrameCount(0))
    }

    /// Moves one batch towards the target that `generation` stands for.
    fn run_batch(
        &self,
        generation: TargetGeneration,
        attempts: &mut CompactionAttempts,
    ) -> ControlFlow<StopReason> {
        let delta = self.inner.lock().delta(generation)?;
        match delta {
            Delta::Reached => self.confirm_reached(generation),
            Delta::TooSmall(missing) => self.inflate_batch(generation, missing, attempts),
            Delta::TooLarge(_) => self.deflate_batch(generation),
        }
    }

    /// Checks the target again with no batch in flight. A batch for an older target may be with the
    /// host; it is inserted before the device lock is released.
    fn confirm_reached(&self, generation: TargetGeneration) -> ControlFlow<StopReason> {
        let _device = self.device.lock();
        match self.inner.lock().delta(generation)? {
            Delta::Reached => ControlFlow::Break(StopReason::Reached),
            Delta::TooSmall(_) | Delta::TooLarge(_) => ControlFlow::Continue(()),
        }
    }

    /// Allocates one batch, hands it to the host and adds it to the balloon.
    fn inflate_batch(
        &self,
        generation: TargetGeneration,
        missing: FrameCount,
        attempts: &mut CompactionAttempts,
    ) -> ControlFlow<StopReason> {
        let mut batch = match self.allocate(missing, attempts) {
            Ok(batch) => batch,
            Err(shortage) => {
                self.inner.lock().counts.allocation_failures += 1;
                return ControlFlow::Break(StopReason::NoMemory(shortage));
            }
        };
        if batch.ranges() == 0 {
            return ControlFlow::Continue(());
        }
        // Declared after the batch: a batch that is dropped here is freed with no lock held.
        let _device = self.device.lock();
        // Another thread may have set a target or filled part of the gap during the allocation.
        let delta = self.inner.lock().delta(generation)?;
        if !matches!(delta, Delta::TooSmall(missing) if missing.0 >= batch.frames()) {
            return ControlFlow::Continue(());
        }
        let FrameBatch { blocks, frames, .. } = &mut batch;
        let mut message = InflateBatch { blocks, frames, target: None };
        // A refusal drops the batch, which frees it.
        if let Err(refusal) = self.host.inflate(&mut message) {
            self.inner.lock().counts.host_refusals += 1;
            return ControlFlow::Break(StopReason::Refused(refusal));
        }
        self.insert(batch);
        ControlFlow::Continue(())
    }

    /// Adds a batch that the host has taken. Its single frames become movable (R-152).
    fn insert(&self, batch: FrameBatch<'_>) {
        let mut inner = self.inner.lock();
        inner.counts.inflate_messages += 1;
        inner.counts.inflated_total += batch.frames();
        self.account.add(FrameCount(batch.frames()));
        for frame in batch.frames {
            // A thread that isolates the frame now waits for this lock, then finds it listed.
            let pfn = self
                .owner
                .set_movable(frame, 0, 0)
                .expect("a frame that was just allocated has no owner");
            inner.list.insert(pfn);
        }
        inner.add_blocks(batch.blocks);
        self.update_record_bytes(&mut inner);
    }

    /// Takes one batch out of the balloon, tells the host and frees it.
    fn deflate_batch(&self, generation: TargetGeneration) -> ControlFlow<StopReason> {
        let device = self.device.lock();
        let mut inner = self.inner.lock();
        let Delta::TooLarge(left) = inner.delta(generation)? else {
            // The zone was out of memory and took frames back, or the target is reached.
            return ControlFlow::Continue(());
        };
        let batch = self.dequeue(&mut inner, left);
        drop(inner);
        if batch.ranges() == 0 {
            return ControlFlow::Break(StopReason::Isolated { left });
        }
        self.tell_host_deflated(&batch);
        drop(device);
        // The frames become free here: after the host was told (R-160), and with no lock held.
        drop(batch);
        ControlFlow::Continue(())
    }

    /// Takes about `left` frames out of the balloon: first single frames, lowest first, so that
    /// whole blocks stay.
    ///
    /// Frames that are isolated, or that migration is locking, are skipped (R-154, S-39). If there
    /// is no single frame, a block is taken even for fewer frames than it has; the caller then
    /// inflates by the difference.
    ///
    /// The caller holds the device lock and the pages lock.
    fn dequeue(&self, inner: &mut BalloonInner, left: FrameCount) -> FrameBatch<'_> {
        let mut left = left.0;
        let mut batch = FrameBatch::default();
        let singles = inner.list.iter().filter_map(|pfn| self.owner.reclaim_from_owner(pfn));
        batch.frames.extend(singles.take(left.min(MAX_BATCH as u64) as usize));
        for frame in &batch.frames {
            inner.list.remove(frame.pfn());
            left -= 1;
        }
        while batch.ranges() < MAX_BATCH && left > 0 {
            let takes_block = left >= BLOCK_FRAMES || batch.ranges() == 0;
            let Some(block) = takes_block.then(|| inner.take_lowest_block()).flatten() else {
                break;
            };
            left = left.saturating_sub(BLOCK_FRAMES);
            batch.blocks.push(block);
        }
        inner.counts.deflated_total += batch.frames();
        inner.counts.deflate_messages += u64::from(batch.ranges() > 0);
        self.account.remove(FrameCount(batch.frames()));
        self.update_record_bytes(inner);
        batch
    }

    /// Tells the host to give a batch back. The caller holds the device lock.
    fn tell_host_deflated(&self, batch: &FrameBatch<'_>) {
        let blocks = batch.blocks.iter().map(FrameRange::block);
        let frames = batch.frames.iter().map(Frame::pfn).map(FrameRange::frame);
        self.host.deflate(&blocks.chain(frames).collect::<Vec<_>>());
    }

    /// Deflates by about `want` frames since the zone is out of memory, and lowers the target to
    /// the new size. Returns how many frames became free.
    pub(crate) fn deflate_on_oom(&self, want: FrameCount) -> FrameCount {
        let Some(_guard) = self.reentrancy.enter() else { return FrameCount(0) };
        let mut given = 0;
        while given < want.0 {
            // Bounded: where two balloons share a zone, the holder may be waiting for this thread.
            let Some(device) = self.wait_for_device() else { break };
            let mut inner = self.inner.lock();
            let batch = self.dequeue(&mut inner, FrameCount(want.0 - given));
            inner.counts.oom_deflated_total += batch.frames();
            // A lower target stops a thread that inflates: the zone needs what it would take.
            // A target below the actual size stays, so a thread that deflates goes on.
            let actual = inner.actual();
            if actual < inner.target() {
                let _ = inner.set_target(actual);
            }
            drop(inner);
            if batch.ranges() == 0 {
                break;
            }
            self.tell_host_deflated(&batch);
            given += batch.frames();
            drop(device);
        }
        FrameCount(given)
    }

    /// Locks the device, or returns `None` after some milliseconds.
    fn wait_for_device(&self) -> Option<sync::MutexGuard<'_, ()>> {
        /// Tries before giving up: some milliseconds.
        const MAX_SPINS: u32 = if cfg!(any(loom, shuttle)) { 2 } else { 4096 };
        (0..MAX_SPINS).find_map(|spins| {
            let device = self.device.try_lock();
            if device.is_none() {
                sync::relax(spins);
            }
            device
        })
    }
}
