//! A capture: neighbouring frames come into one hand, whatever they are now.
//!
//! Free frames of the range are taken at once. Movable ones are isolated and migrated elsewhere, and the old frame is *kept*: the isolation's own reference
//! becomes the capture's. So no frame is free in between, and no thief can come. What is ours is in use as a single frame, with one reference.
//!
//! All or nothing: before anything is moved, every frame in use of a pageblock must be isolated. What a capture that is dropped holds goes back.
//!
//! # The limit
//! A capture reserves room for all of its frames first. From then on each frame that comes in counts against the limit instead of against the reserve,
//! and what is moved away counted before and counts after.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::budget::Deadline;
use crate::descriptor::Put;
use crate::events::add;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::{Isolated, MigrateMode, MigratedSource, Target, TargetCharge, Targets};
use crate::state::{Kind, State};
use crate::units::{MigrateType, Order, Pfn};
use crate::zone::{CpuListsState, Zone};

/// How often what is in the way of a capture is looked at again.
const MAX_PASSES: u32 = 10;
/// Frames to move to that are taken at once.
const BATCH: usize = 32;
/// Frames given back in one turn with the zone lock.
const LOCK_BATCH: usize = 128;

/// Why a capture failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaptureError {
    Limit,
    /// The zone is poisoned.
    Poisoned,
    NoTargets,
    OutOfTime,
    /// A movable frame that its owner, or somebody else, does not let go of now.
    Busy(Pfn),
    /// A frame nobody can move.
    Unmovable(Pfn),
}

#[derive(Debug)]
pub(crate) struct ContigCapture<'z> {
    zone: &'z Zone,
    first: Pfn,
    frames: u32,
    /// A bit for each frame that is ours.
    captured: Vec<u64>,
    /// How many those are; room for the rest is reserved.
    captured_count: u32,
    moved: u64,
}

impl<'z> ContigCapture<'z> {
    /// Reserves room for the frames, then empties each per-CPU list: their frames have no owner and may
    /// be in the range.
    ///
    /// Locking: each list once, one after the other, also with the zone lock where it holds frames. The
    /// caller holds no lock of an owner.
    pub(crate) fn begin(zone: &'z Zone, first: Pfn, frames: u32) -> Result<Self, CaptureError> {
        zone.process_memory_failures();
        let captured = vec![0; frames.div_ceil(64) as usize];
        let look = zone.with_drained_lists(|buddy, lists| {
            let has_room = buddy.headroom() >= u64::from(frames);
            if has_room {
                buddy.reserved += u64::from(frames);
            }
            (has_room || lists == CpuListsState::Empty).then_some(Ok(has_room))
        });
        match look {
            Ok(true) => {
                let capture = Self { zone, first, frames, captured, captured_count: 0, moved: 0 };
                zone.drain_each_list();
                Ok(capture)
            }
            Ok(false) => Err(CaptureError::Limit),
            Err(_) => Err(CaptureError::Poisoned),
        }
    }

    /// Frames that were moved away.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Brings all frames in, pageblock by pageblock.
    pub(crate) fn acquire(
        &mut self,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), CaptureError> {
        let (first, frames) = (self.first, self.frames);
        // What is free first, everywhere: it must not be a place to move to.
        for (first, end) in pageblock_parts(first, frames) {
            if deadline.has_passed() {
                return Err(CaptureError::OutOfTime);
            }
            self.take_free(first, end);
        }
        pageblock_parts(first, frames)
            .try_for_each(|(first, end)| self.acquire_range(first, end, mode, deadline))
    }

    fn acquire_range(
        &mut self,
        first: Pfn,
        end: Pfn,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), CaptureError> {
        let mut error = CaptureError::Busy(first);
        for pass in 0..MAX_PASSES {
            if pass > 0 {
                sync::relax(pass * 8);
                self.take_free(first, end);
            }
            if (first.0..end.0).all(|frame| self.is_captured(Pfn(frame))) {
                return Ok(());
            }
            if deadline.has_passed() {
                return Err(CaptureError::OutOfTime);
            }
            error = match self
                .isolate_rest(first, end)
                .and_then(|batch| self.migrate_out(batch, mode, deadline))
            {
                Err(last @ (CaptureError::NoTargets | CaptureError::OutOfTime)) => {
                    return Err(last);
                }
                Err(other) => {
                    // Once: an owner that keeps its pins has its reasons.
                    if pass == 0 && mode == MigrateMode::Sync {
                        self.notify_owners(first, end);
                    }
                    other
                }
                Ok(()) => continue,
            };
        }
        self.take_free(first, end);
        if (first.0..end.0).all(|frame| self.is_captured(Pfn(frame))) { Ok(()) } else { Err(error) }
    }

    fn take_free(&mut self, first: Pfn, end: Pfn) {
        let zone = self.zone;
        if let Some(mut buddy) = zone.buddy.lock_unpoisoned() {
            buddy.take_range(&zone.tables, first, end, |pfn| self.set_captured(pfn));
        }
    }

    /// Tells the owners of the frames that are still missing that they are wanted.
    fn notify_owners(&self, first: Pfn, end: Pfn) {
        let missing = (first.0..end.0)
            .map(Pfn)
            .filter(|&pfn| !self.is_captured(pfn) && !self.zone.tables.blocks.is_free(pfn));
        for pfn in missing {
            let ops = self
                .zone
                .tables
                .frames
                .state(pfn)
                .owner()
                .and_then(|owner| self.zone.registry.ops(owner));
            // A callback that panics has told nothing.
            let _ = ops.map(|ops| catch_unwind(AssertUnwindSafe(|| ops.request_unpin(pfn))));
        }
    }

    /// Isolates every frame of the range that is in use, or none.
    fn isolate_rest(&self, first: Pfn, end: Pfn) -> Result<Vec<Isolated<'z>>, CaptureError> {
        let rest = || {
            (first.0..end.0)
                .map(Pfn)
                .filter(|&pfn| !self.is_captured(pfn) && !self.zone.tables.blocks.is_free(pfn))
        };
        let mut cached = None;
        for pfn in rest() {
            match mobility_of(self.zone, pfn) {
                FrameMobility::Movable => {}
                FrameMobility::Cached => cached = Some(pfn),
                FrameMobility::Unmovable => return Err(CaptureError::Unmovable(pfn)),
            }
        }
        if let Some(pfn) = cached {
            self.zone.drain_lists_above(0);
            return Err(CaptureError::Busy(pfn));
        }
        rest().map(|pfn| self.zone.isolate(pfn).ok_or(CaptureError::Busy(pfn))).collect()
    }

    /// Moves frames out, a few between two looks at the clock. Those it does not come to are put back.
    fn migrate_out(
        &mut self,
        mut rest: Vec<Isolated<'z>>,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), CaptureError> {
        let zone = self.zone;
        add(&zone.events.compact_isolated, rest.len() as u64);
        let mut room =
            CaptureTargets { capture: self, free: Vec::with_capacity(BATCH), kept: 0, arrived: 0 };
        let (mut moved, mut error) = (0, None);
        while !rest.is_empty()
            && !matches!(error, Some(CaptureError::NoTargets | CaptureError::OutOfTime))
        {
            let mut batch = rest.split_off(rest.len().saturating_sub(BATCH));
            let done = zone.migrate_pages(&mut batch, &mut room, mode);
            moved += done.migrated;
            error = match batch.first() {
                _ if done.out_of_frames => Some(CaptureError::NoTargets),
                _ if !rest.is_empty() && deadline.has_passed() => Some(CaptureError::OutOfTime),
                Some(busy) => Some(CaptureError::Busy(busy.pfn())),
                None => error,
            };
        }
        drop(room);
        self.moved += moved;
        error.map_or(Ok(()), Err)
    }

    fn bit_of(&self, pfn: Pfn) -> (usize, u64) {
        let at = pfn.0 - self.first.0;
        (at as usize / 64, 1 << (at % 64))
    }

    fn contains(&self, pfn: Pfn) -> bool {
        (self.first.0..self.first.0 + self.frames).contains(&pfn.0)
    }

    fn is_captured(&self, pfn: Pfn) -> bool {
        let (word, bit) = self.bit_of(pfn);
        self.captured[word] & bit != 0
    }

    fn set_captured(&mut self, pfn: Pfn) {
        let (word, bit) = self.bit_of(pfn);
        self.captured[word] |= bit;
        self.captured_count += 1;
    }

    /// Makes one block of a complete capture. `None`, with everything given back, when somebody else looked at one of its frames just now.
    pub(crate) fn into_block(mut self, order: Order) -> Option<Pfn> {
        assert!(
            self.captured_count == self.frames && self.frames == order.frames(),
            "a capture is joined before it is complete"
        );
        self.captured.clear();
        let frames = &self.zone.tables.frames;
        let alone = put_references(self.zone, (self.first.0..self.first.0 + self.frames).map(Pfn));
        if alone.len() < self.frames as usize {
            self.zone.free_frames(alone, |_| {});
            return None;
        }
        // Without references they are nobody's but ours, and the maps have them as taken.
        frames.change(self.first, State::CACHED, State::used(order));
        alone[1..].iter().for_each(|&pfn| frames.change(pfn, State::CACHED, State::INSIDE));
        Some(self.first)
    }

    /// The frames of a complete capture, each in use with one reference, are the caller's.
    pub(crate) fn keep(mut self) {
        assert!(self.captured_count == self.frames, "a capture is kept before it is complete");
        self.captured.clear();
    }
}

impl Drop for ContigCapture<'_> {
    fn drop(&mut self) {
        let captured = (0..self.captured.len() as u32 * 64)
            .filter(|&at| self.captured[at as usize / 64] >> (at % 64) & 1 == 1);
        let frames: Vec<Pfn> = captured.map(|at| self.first.plus(at)).collect();
        free_contig_range(self.zone, frames);
        if let Some(mut buddy) = self.zone.buddy.lock_unpoisoned() {
            buddy.reserved -= u64::from(self.frames - self.captured_count);
        }
    }
}

/// Gives back single frames that are in use with one reference, straight to the buddy lists.
pub(crate) fn free_contig_range(zone: &Zone, frames: impl IntoIterator<Item = Pfn>) {
    let mut frames = frames.into_iter().peekable();
    // In turns, so that nobody waits long for the zone lock.
    while frames.peek().is_some() {
        let turn = put_references(zone, frames.by_ref().take(LOCK_BATCH));
        zone.free_frames(turn, |_| {});
    }
}

/// Gives the references of frames back and returns those that were the last ones: these frames are nobody's now.
fn put_references(zone: &Zone, frames: impl Iterator<Item = Pfn>) -> Vec<Pfn> {
    let last = |&pfn: &Pfn| match zone.tables.frames.put(pfn) {
        Ok(put) => put != Put::Shared,
        // Already unwinding: a second panic would abort, and the frame is merely lost.
        Err(_) if std::thread::panicking() => false,
        Err(error) => panic!("{error}"),
    };
    frames.filter(last).collect()
}

/// The parts of a range that lie in one pageblock each.
pub(crate) fn pageblock_parts(first: Pfn, frames: u32) -> impl Iterator<Item = (Pfn, Pfn)> {
    let end = first.plus(frames);
    std::iter::successors(Some(first), move |at| Some(at.block().first().plus(PAGEBLOCK_FRAMES)))
        .take_while(move |&at| at < end)
        .map(move |at| (at, end.min(at.block().first().plus(PAGEBLOCK_FRAMES))))
}

/// What a frame that is not free is to a capture.
enum FrameMobility {
    Movable,
    Cached,
    Unmovable,
}

fn mobility_of(zone: &Zone, pfn: Pfn) -> FrameMobility {
    let state = zone.tables.frames.state(pfn);
    match (state.kind(), state.order()) {
        // Isolated by somebody else, it may be movable again or free in a moment.
        (Some(Kind::Used), Some(Order::SINGLE)) if zone.can_move(state) || state.is_isolated() => {
            FrameMobility::Movable
        }
        // Frozen, it is free or has an owner in a moment.
        (Some(Kind::Cached | Kind::Free | Kind::Frozen), _) => FrameMobility::Cached,
        _ => FrameMobility::Unmovable,
    }
}

/// The first frame of `first..end`, which lies in one pageblock, that nobody can move.
pub(crate) fn first_unmovable(zone: &Zone, first: Pfn, end: Pfn) -> Option<Pfn> {
    let frames = if zone.is_committed(first) { first.0..end.0 } else { 0..0 };
    let mut taken = frames.map(Pfn).filter(|&pfn| !zone.tables.blocks.is_free(pfn));
    taken.find(|&pfn| matches!(mobility_of(zone, pfn), FrameMobility::Unmovable))
}

/// Where the content of claimed frames moves to: anywhere outside of the capture. The old frames stay with the capture.
struct CaptureTargets<'c, 'z> {
    capture: &'c mut ContigCapture<'z>,
    /// Free frames taken and not used yet, without references.
    free: Vec<Pfn>,
    /// Frames that came to the capture.
    kept: u64,
    /// Frames that were on the move and have arrived.
    arrived: u64,
}

impl CaptureTargets<'_, '_> {
    fn refill(&mut self) {
        let zone = self.capture.zone;
        let mut frames = [Pfn(0); BATCH];
        loop {
            let Some(mut buddy) = zone.buddy.lock_unpoisoned() else { return };
            let count = buddy.take_frames(&zone.tables, MigrateType::Movable, &mut frames);
            buddy.in_flight += count as u64;
            drop(buddy);
            add(&zone.events.free_scanned, count as u64);
            for &pfn in frames[..count].iter().rev() {
                // Freed by its owner meanwhile, a frame of the capture is no place to move to: it is what we want.
                if self.capture.contains(pfn) {
                    self.keep(pfn, 1);
                } else {
                    self.free.push(pfn);
                }
            }
            if count == 0 || !self.free.is_empty() {
                return;
            }
        }
    }

    fn keep(&mut self, pfn: Pfn, arrived: u64) {
        self.capture.zone.tables.frames.change(pfn, State::CACHED, State::used(Order::SINGLE));
        self.capture.set_captured(pfn);
        self.kept += 1;
        self.arrived += arrived;
    }
}

impl<'z> Targets<'z> for CaptureTargets<'_, 'z> {
    fn next(&mut self, _: Pfn) -> Option<Target<'z>> {
        if self.free.is_empty() {
            self.refill();
        }
        Some(Target::from_cached(self.capture.zone, self.free.pop()?, TargetCharge::InFlight))
    }

    fn free_source(&mut self, old: MigratedSource<'z>) {
        let (pfn, arrived) = old.end_isolation();
        match pfn {
            Some(pfn) => self.keep(pfn, arrived),
            // Somebody else still looks at it; it is freed when he is done, and the next pass finds it.
            None => self.arrived += arrived,
        }
    }
}

impl Drop for CaptureTargets<'_, '_> {
    fn drop(&mut self) {
        let (kept, unused) = (self.kept, self.free.len() as u64);
        let arrived = self.arrived + unused;
        self.capture.zone.free_frames(self.free.drain(..), |buddy| {
            buddy.reserved -= kept;
            buddy.in_flight -= arrived;
        });
    }
}
