//! One batch at a time towards the target.
//!
//! ```text
//!  inflate:  allocate (no lock of ours)  ->  device lock  ->  host takes the memory  ->  blocks and list  ->  unlock
//!  deflate:  device lock  ->  out of list and blocks  ->  host gives it back  ->  unlock  ->  frames are free
//! ```
//! The frames of a batch are values in the hands of one thread while the host is told, so nobody can isolate or use them. Only when the host has agreed
//! do they become movable: a refusal is undone by dropping the batch.

use frames::{Frame, FrameCount};

use crate::BATCH;
use crate::allocate::{A_BLOCK, Batch, Scattered};
use crate::balloon::Balloon;
use crate::held::{Gap, Goal, Held};
use crate::host::{Loan, Piece};
use crate::outcome::Stop;

/// Whether to go on after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Moved,
    Stopped(Stop),
}

impl Balloon {
    /// One batch more towards the target that `goal` stands for.
    pub(crate) fn step(&self, goal: Goal, scattered: &mut Scattered) -> Step {
        let gap = self.held.lock().gap(goal);
        match gap {
            Gap::Superseded => Step::Stopped(Stop::Superseded),
            Gap::Reached => self.settled(goal),
            Gap::TooSmall(missing) => self.inflate_batch(goal, missing, scattered),
            Gap::TooLarge(_) => self.deflate_batch(goal),
        }
    }

    /// Looks again when no batch is in flight: one for an older target may be with the host, and is inserted after that.
    fn settled(&self, goal: Goal) -> Step {
        let _device = self.device.lock();
        match self.held.lock().gap(goal) {
            Gap::Reached => Step::Stopped(Stop::Reached),
            Gap::Superseded => Step::Stopped(Stop::Superseded),
            Gap::TooSmall(_) | Gap::TooLarge(_) => Step::Moved,
        }
    }

    fn inflate_batch(&self, goal: Goal, missing: FrameCount, scattered: &mut Scattered) -> Step {
        let mut batch = match self.allocate(missing, scattered) {
            Ok(batch) => batch,
            Err(shortage) => {
                self.held.lock().events.failed += 1;
                return Step::Stopped(Stop::NoMemory(shortage));
            }
        };
        if batch.pieces() == 0 {
            return Step::Moved;
        }
        let device = self.device.lock();
        // Allocating may have taken its time: another target may be set by now, and somebody else may have filled the gap in part.
        let gap = self.held.lock().gap(goal);
        match gap {
            Gap::TooSmall(missing) if missing.0 >= batch.frames() => {}
            Gap::Superseded => {
                drop(device);
                return Step::Stopped(Stop::Superseded);
            }
            _ => {
                drop(device);
                return Step::Moved;
            }
        }
        if let Err(refusal) =
            self.host.inflate(&mut Loan::batch(&mut batch.blocks, &mut batch.frames))
        {
            self.held.lock().events.refused += 1;
            drop(device);
            return Step::Stopped(Stop::Refused(refusal));
        }
        self.insert(batch);
        Step::Moved
    }

    /// The host has the memory: from here on the frames are the balloon's, and the single ones can be moved (R-152).
    fn insert(&self, batch: Batch<'_>) {
        let mut held = self.held.lock();
        held.events.inflate_messages += 1;
        held.events.inflated += batch.frames();
        self.account.add(FrameCount(batch.frames()));
        for frame in batch.frames {
            // Whoever isolates it now waits for the pages lock, and finds it on the list.
            let pfn = self
                .owner
                .set_movable(frame, 0, 0)
                .expect("a frame the zone just gave to the balloon");
            held.list.insert(pfn);
        }
        held.add_blocks(batch.blocks);
        self.settle_records(&mut held);
    }

    fn deflate_batch(&self, goal: Goal) -> Step {
        let device = self.device.lock();
        let mut held = self.held.lock();
        let left = match held.gap(goal) {
            Gap::TooLarge(left) => left,
            Gap::Superseded => return Step::Stopped(Stop::Superseded),
            // The zone was out of memory meanwhile, or the target is reached.
            Gap::Reached | Gap::TooSmall(_) => return Step::Moved,
        };
        let batch = self.dequeue(&mut held, left);
        drop(held);
        if batch.pieces() == 0 {
            return Step::Stopped(Stop::Isolated { left });
        }
        self.tell_deflated(&batch);
        drop(device);
        // Here the frames become free, after the host was told (R-160), and with no lock held.
        drop(batch);
        Step::Moved
    }

    /// Takes about `left` frames out: single frames first, lowest first, so that what stays is whole blocks.
    ///
    /// A frame that is isolated or that migration is just looking at is passed over (R-154, S-39). Only when no single frame can be had is a
    /// block given up for less than it holds; the caller then inflates by the difference.
    fn dequeue(&self, held: &mut Held, left: FrameCount) -> Batch<'_> {
        let mut left = left.0;
        let mut batch = Batch::default();
        let singles = held.list.iter().filter_map(|pfn| self.owner.reclaim_from_owner(pfn));
        batch.frames.extend(singles.take(BATCH.min(usize::try_from(left).unwrap_or(BATCH))));
        for frame in &batch.frames {
            held.list.remove(frame.pfn());
            left -= 1;
        }
        while batch.pieces() < BATCH && left > 0 {
            let enough = left >= A_BLOCK || batch.pieces() == 0;
            let Some(block) = enough.then(|| held.take_lowest_block()).flatten() else { break };
            left = left.saturating_sub(A_BLOCK);
            batch.blocks.push(block);
        }
        held.events.deflated += batch.frames();
        self.account.remove(FrameCount(batch.frames()));
        held.events.deflate_messages += u64::from(batch.pieces() > 0);
        self.settle_records(held);
        batch
    }

    fn tell_deflated(&self, batch: &Batch<'_>) {
        let blocks = batch.blocks.iter().map(Piece::block);
        let frames = batch.frames.iter().map(Frame::pfn).map(Piece::frame);
        let pieces: Vec<_> = blocks.chain(frames).collect();
        self.host.deflate(&pieces);
    }

    /// Gives back about `want` frames because the zone is out of memory, and lowers the target to what is left. Says how many went back.
    pub(crate) fn give_back(&self, want: FrameCount) -> FrameCount {
        let Some(_inside) = self.inside.enter() else { return FrameCount(0) };
        let mut given = 0;
        while given < want.0 {
            // Not for ever: whoever has it may be waiting for us, where two balloons share a zone.
            let Some(device) = self.wait_for_device() else { break };
            let mut held = self.held.lock();
            let batch = self.dequeue(&mut held, FrameCount(want.0 - given));
            held.events.oom_deflated += batch.frames();
            // Whoever is inflating stops: the zone needs what it would take.
            let actual = held.actual();
            // Whoever is deflating goes on, or the balloon would stay larger than was asked for.
            if actual < held.target() {
                let _ = held.aim(actual);
            }
            drop(held);
            if batch.pieces() == 0 {
                break;
            }
            self.tell_deflated(&batch);
            given += batch.frames();
            drop(device);
        }
        FrameCount(given)
    }

    fn wait_for_device(&self) -> Option<sync::MutexGuard<'_, ()>> {
        /// Times it is tried: some milliseconds.
        const TRIES: u32 = if cfg!(any(loom, shuttle)) { 2 } else { 4096 };
        (0..TRIES).find_map(|spins| {
            let device = self.device.try_lock();
            if device.is_none() {
                sync::relax(spins);
            }
            device
        })
    }
}
