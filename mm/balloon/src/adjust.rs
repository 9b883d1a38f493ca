//! One batch at a time towards the target.
//!
//! ```text
//!  inflate:  allocate (no lock of ours)  ->  device lock  ->  host takes the memory  ->  blocks and list  ->  unlock
//!  deflate:  device lock  ->  out of list and blocks  ->  host gives it back  ->  unlock  ->  frames are free
//! ```
//! The frames of a batch are values in the hands of one thread while the host is told, so nobody can isolate or use them. Only when the host has agreed
//! do they become movable: a refusal is undone by dropping the batch.

use std::ops::ControlFlow;

use frames::{Frame, FrameCount};

use crate::MAX_BATCH;
use crate::allocate::{BLOCK_FRAMES, CompactionAttempts, FrameBatch};
use crate::balloon::Balloon;
use crate::host::{FrameRange, InflateBatch};
use crate::inner::{BalloonInner, Delta, TargetGeneration};
use crate::outcome::StopReason;

impl Balloon {
    /// One batch more towards the target that `generation` stands for.
    pub(crate) fn run_batch(
        &self,
        generation: TargetGeneration,
        attempts: &mut CompactionAttempts,
    ) -> ControlFlow<StopReason> {
        let delta = self.inner.lock().delta(generation);
        match delta {
            Delta::Superseded => ControlFlow::Break(StopReason::Superseded),
            Delta::Reached => self.confirm_reached(generation),
            Delta::TooSmall(missing) => self.inflate_batch(generation, missing, attempts),
            Delta::TooLarge(_) => self.deflate_batch(generation),
        }
    }

    /// Looks again when no batch is in flight: one for an older target may be with the host, and is inserted after that.
    fn confirm_reached(&self, generation: TargetGeneration) -> ControlFlow<StopReason> {
        let _device = self.device.lock();
        match self.inner.lock().delta(generation) {
            Delta::Reached => ControlFlow::Break(StopReason::Reached),
            Delta::Superseded => ControlFlow::Break(StopReason::Superseded),
            Delta::TooSmall(_) | Delta::TooLarge(_) => ControlFlow::Continue(()),
        }
    }

    fn inflate_batch(
        &self,
        generation: TargetGeneration,
        missing: FrameCount,
        attempts: &mut CompactionAttempts,
    ) -> ControlFlow<StopReason> {
        let mut batch = match self.allocate(missing, attempts) {
            Ok(batch) => batch,
            Err(shortage) => {
                self.inner.lock().events.failed += 1;
                return ControlFlow::Break(StopReason::NoMemory(shortage));
            }
        };
        if batch.ranges() == 0 {
            return ControlFlow::Continue(());
        }
        let device = self.device.lock();
        // Allocating may have taken its time: another target may be set by now, and somebody else may have filled the gap in part.
        let delta = self.inner.lock().delta(generation);
        match delta {
            Delta::TooSmall(missing) if missing.0 >= batch.frames() => {}
            Delta::Superseded => {
                drop(device);
                return ControlFlow::Break(StopReason::Superseded);
            }
            _ => {
                drop(device);
                return ControlFlow::Continue(());
            }
        }
        if let Err(refusal) =
            self.host.inflate(&mut InflateBatch::from_frames(&mut batch.blocks, &mut batch.frames))
        {
            self.inner.lock().events.refused += 1;
            drop(device);
            return ControlFlow::Break(StopReason::Refused(refusal));
        }
        self.insert(batch);
        ControlFlow::Continue(())
    }

    /// The host has the memory: from here on the frames are the balloon's, and the single ones can be moved (R-152).
    fn insert(&self, batch: FrameBatch<'_>) {
        let mut inner = self.inner.lock();
        inner.events.inflate_messages += 1;
        inner.events.inflated += batch.frames();
        self.account.add(FrameCount(batch.frames()));
        for frame in batch.frames {
            // Whoever isolates it now waits for the pages lock, and finds it on the list.
            let pfn = self
                .owner
                .set_movable(frame, 0, 0)
                .expect("a frame the zone just gave to the balloon");
            inner.list.insert(pfn);
        }
        inner.add_blocks(batch.blocks);
        self.update_record_bytes(&mut inner);
    }

    fn deflate_batch(&self, generation: TargetGeneration) -> ControlFlow<StopReason> {
        let device = self.device.lock();
        let mut inner = self.inner.lock();
        let left = match inner.delta(generation) {
            Delta::TooLarge(left) => left,
            Delta::Superseded => return ControlFlow::Break(StopReason::Superseded),
            // The zone was out of memory meanwhile, or the target is reached.
            Delta::Reached | Delta::TooSmall(_) => return ControlFlow::Continue(()),
        };
        let batch = self.dequeue(&mut inner, left);
        drop(inner);
        if batch.ranges() == 0 {
            return ControlFlow::Break(StopReason::Isolated { left });
        }
        self.tell_host_deflated(&batch);
        drop(device);
        // Here the frames become free, after the host was told (R-160), and with no lock held.
        drop(batch);
        ControlFlow::Continue(())
    }

    /// Takes about `left` frames out: single frames first, lowest first, so that what stays is whole blocks.
    ///
    /// A frame that is isolated or that migration is just looking at is passed over (R-154, S-39). Only when no single frame can be had is a
    /// block given up for less than it holds; the caller then inflates by the difference.
    fn dequeue(&self, inner: &mut BalloonInner, left: FrameCount) -> FrameBatch<'_> {
        let mut left = left.0;
        let mut batch = FrameBatch::default();
        let singles = inner.list.iter().filter_map(|pfn| self.owner.reclaim_from_owner(pfn));
        batch
            .frames
            .extend(singles.take(MAX_BATCH.min(usize::try_from(left).unwrap_or(MAX_BATCH))));
        for frame in &batch.frames {
            inner.list.remove(frame.pfn());
            left -= 1;
        }
        while batch.ranges() < MAX_BATCH && left > 0 {
            let enough = left >= BLOCK_FRAMES || batch.ranges() == 0;
            let Some(block) = enough.then(|| inner.take_lowest_block()).flatten() else { break };
            left = left.saturating_sub(BLOCK_FRAMES);
            batch.blocks.push(block);
        }
        inner.events.deflated += batch.frames();
        self.account.remove(FrameCount(batch.frames()));
        inner.events.deflate_messages += u64::from(batch.ranges() > 0);
        self.update_record_bytes(inner);
        batch
    }

    fn tell_host_deflated(&self, batch: &FrameBatch<'_>) {
        let blocks = batch.blocks.iter().map(FrameRange::block);
        let frames = batch.frames.iter().map(Frame::pfn).map(FrameRange::frame);
        let ranges: Vec<_> = blocks.chain(frames).collect();
        self.host.deflate(&ranges);
    }

    /// Gives back about `want` frames because the zone is out of memory, and lowers the target to what is left. Says how many went back.
    pub(crate) fn deflate_on_oom(&self, want: FrameCount) -> FrameCount {
        let Some(_guard) = self.reentrancy.enter() else { return FrameCount(0) };
        let mut given = 0;
        while given < want.0 {
            // Not for ever: whoever has it may be waiting for us, where two balloons share a zone.
            let Some(device) = self.wait_for_device() else { break };
            let mut inner = self.inner.lock();
            let batch = self.dequeue(&mut inner, FrameCount(want.0 - given));
            inner.events.oom_deflated += batch.frames();
            // Whoever is inflating stops: the zone needs what it would take.
            let actual = inner.actual();
            // Whoever is deflating goes on, or the balloon would stay larger than was asked for.
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

    fn wait_for_device(&self) -> Option<sync::MutexGuard<'_, ()>> {
        /// Times it is tried: some milliseconds.
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
