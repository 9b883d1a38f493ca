//! A capture: takes a range of neighbouring frames, whatever their state is.
//!
//! Free frames of the range are taken at once. Movable ones are isolated, all of a pageblock or
//! none, and migrated elsewhere, and the old frame is *kept*: the isolation's reference becomes the
//! capture's. The old frame is never on a free list, so no other allocation can take it. A captured
//! frame is in use as a single frame, with one reference.
//!
//! # The limit
//! A capture first reserves room for all of its frames. Each captured frame then counts against the
//! limit as in use and no longer as reserved. Content that is moved away counts before and after
//! the move.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::request::{ContigError, check_time};
use crate::buddy::{CaptureRoom, CommitState, InFlight, pageblock_parts};
use crate::budget::Deadline;
use crate::migrate::{Isolated, MigratedSource, Targets};
use crate::page::{Kind, State};
use crate::units::{MigrateType, Order, Pfn};
use crate::zone::{CpuListsState, MigrateMode, Target, Zone, add};

/// How often a capture tries a pageblock.
const MAX_PASSES: u32 = 10;
/// The most targets taken at once.
const BATCH: usize = 32;
/// The most frames freed in one turn with the zone lock.
const LOCK_BATCH: usize = 128;

/// A range of frames that is being captured. Dropping it frees those that are.
#[derive(Debug)]
pub(crate) struct ContigCapture<'z> {
    zone: &'z Zone,
    first: Pfn,
    frames: u32,
    /// A bit for each frame: set when it is captured.
    captured: Vec<u64>,
    /// Room below the limit for the frames that are not captured yet.
    room: CaptureRoom,
    /// Frames that were moved away.
    pub(super) moved: u64,
}

impl<'z> ContigCapture<'z> {
    /// Reserves room for the frames, then drains each per-CPU list, which may hold some of them.
    ///
    /// Locking: each list once, one after the other, and under it the zone lock if the list holds
    /// frames. The caller holds no lock of an owner.
    pub(crate) fn begin(zone: &'z Zone, first: Pfn, frames: u32) -> Result<Self, ContigError> {
        zone.allocator().process_memory_failures();
        let captured = vec![0; frames.div_ceil(64) as usize];
        // Refuse only once all lists are drained: their frames count against the limit.
        let room = zone.allocator().with_drained_lists(|buddy, lists| {
            let room = buddy.ledger.keep_for_capture(frames.into());
            (room.is_some() || lists == CpuListsState::Empty).then_some(Ok(room))
        });
        let room = room.map_err(|_| ContigError::Poisoned)?.ok_or(ContigError::Limit)?;
        let capture = Self { zone, first, frames, captured, room, moved: 0 };
        // This also waits for threads that are about to put a frame on a list.
        zone.allocator().drain_each_list();
        Ok(capture)
    }

    pub(crate) fn acquire(
        &mut self,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), ContigError> {
        let (first, frames) = (self.first, self.frames);
        // Take the free frames of the whole range first, so that no content moves to them.
        for (first, frames) in pageblock_parts(first, frames) {
            check_time(deadline)?;
            self.take_free(first, first.plus(frames));
        }
        pageblock_parts(first, frames).try_for_each(|(first, frames)| {
            self.acquire_range(first, first.plus(frames), mode, deadline)
        })
    }

    /// Captures `first..end`, which lies in one pageblock, in several passes.
    fn acquire_range(
        &mut self,
        first: Pfn,
        end: Pfn,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), ContigError> {
        let mut error = ContigError::Busy { pfn: first };
        for pass in 0..=MAX_PASSES {
            // Frames may have become free since the last pass.
            if pass > 0 {
                sync::relax(pass * 8);
                self.take_free(first, end);
            }
            if (first.0..end.0).all(|frame| self.is_captured(Pfn(frame))) {
                return Ok(());
            }
            if pass == MAX_PASSES {
                break;
            }
            check_time(deadline)?;
            // Isolate all frames in use, then move their content.
            let batch = self.isolate_rest(first, end);
            match batch.and_then(|batch| self.migrate_out(batch, mode, deadline)) {
                Ok(()) => {}
                Err(last @ (ContigError::NoTargets | ContigError::OutOfTime)) => return Err(last),
                Err(other) => {
                    // Ask once: an owner that keeps its pins then will keep them later, too.
                    if pass == 0 && mode == MigrateMode::Sync {
                        self.notify_owners(first, end);
                    }
                    error = other;
                }
            }
        }
        Err(error)
    }

    fn take_free(&mut self, first: Pfn, end: Pfn) {
        let Self { zone, first: start, captured, room, .. } = self;
        zone.allocator().with_buddy(|buddy, tables| {
            let set = |pfn: Pfn| set_bit(captured, pfn.0 - start.0);
            buddy.take_range(tables, first, end, room, set);
        });
    }

    /// Iterates over the frames of `first..end` that are neither captured nor free.
    fn missing(&self, first: Pfn, end: Pfn) -> impl Iterator<Item = Pfn> {
        let blocks = &self.zone.tables().blocks;
        (first.0..end.0).map(Pfn).filter(move |&pfn| !self.is_captured(pfn) && !blocks.is_free(pfn))
    }

    /// Asks the owners of the missing frames to unpin them.
    fn notify_owners(&self, first: Pfn, end: Pfn) {
        for pfn in self.missing(first, end) {
            let owner = self.zone.tables().frames.state(pfn).owner();
            if let Some(found) = owner.and_then(|owner| self.zone.registry().callbacks(owner)) {
                // A panic in the callback changes nothing here.
                let _ = catch_unwind(AssertUnwindSafe(|| found.ops.request_unpin(pfn)));
            }
        }
    }

    /// Isolates every frame of the range that is in use, or none.
    fn isolate_rest(&self, first: Pfn, end: Pfn) -> Result<Vec<Isolated<'z>>, ContigError> {
        let mut busy = None;
        for pfn in self.missing(first, end) {
            match check_movable(self.zone, pfn) {
                Ok(()) => {}
                Err(error @ ContigError::Unmovable { .. }) => return Err(error),
                Err(error) => busy = Some(error),
            }
        }
        // Frames in per-CPU lists become free when the lists are drained.
        if let Some(error) = busy {
            self.zone.allocator().drain_lists_above(0);
            return Err(error);
        }
        let isolate = |pfn: Pfn| self.zone.isolate(pfn).ok_or(ContigError::Busy { pfn });
        self.missing(first, end).map(isolate).collect()
    }

    /// Moves frames out in batches until the deadline. Frames that it does not reach are put back.
    fn migrate_out(
        &mut self,
        mut rest: Vec<Isolated<'z>>,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), ContigError> {
        let zone = self.zone;
        add(&zone.events().compact_isolated, rest.len() as u64);
        let free = Vec::with_capacity(BATCH);
        let mut room =
            CaptureTargets { capture: self, free, in_flight: InFlight::default(), kept: 0 };
        let mut error = None;
        // Go on after a busy frame: only a lack of targets or of time ends the loop.
        while !rest.is_empty()
            && !matches!(error, Some(ContigError::NoTargets | ContigError::OutOfTime))
        {
            let mut batch = rest.split_off(rest.len().saturating_sub(BATCH));
            let done = zone.migrate_pages(&mut batch, &mut room, mode);
            room.capture.moved += done.migrated;
            error = match batch.first() {
                _ if done.out_of_frames => Some(ContigError::NoTargets),
                _ if !rest.is_empty() && deadline.has_passed() => Some(ContigError::OutOfTime),
                Some(busy) => Some(ContigError::Busy { pfn: busy.pfn() }),
                None => error,
            };
        }
        error.map_or(Ok(()), Err)
    }

    fn is_captured(&self, pfn: Pfn) -> bool {
        has_bit(&self.captured, pfn.0 - self.first.0)
    }

    /// Turns a complete capture into one block. Returns `None`, with every frame freed, when
    /// another thread holds a reference to a frame.
    pub(crate) fn into_block(mut self, order: Order) -> Option<Pfn> {
        assert!(
            self.room.frames() == 0 && self.frames == order.frames(),
            "only a complete capture becomes a block"
        );
        self.captured.clear();
        let frames = &self.zone.tables().frames;
        let alone = put_references(self.zone, (self.first.0..self.first.0 + self.frames).map(Pfn));
        if alone.len() < self.frames as usize {
            self.zone.allocator().free_frames(alone, |_| {});
            return None;
        }
        // Without references the frames are ours alone, and the free map has them as taken.
        frames.change(self.first, State::CACHED, State::used(order));
        alone[1..].iter().for_each(|&pfn| frames.change(pfn, State::CACHED, State::INSIDE));
        Some(self.first)
    }

    /// Ends a complete capture: its frames, each in use with one reference, belong to the caller.
    pub(crate) fn keep(mut self) {
        assert!(self.room.frames() == 0, "only a complete capture can be kept");
        self.captured.clear();
    }
}

impl Drop for ContigCapture<'_> {
    fn drop(&mut self) {
        let bits = (0..self.captured.len() as u32 * 64).filter(|&at| has_bit(&self.captured, at));
        free_contig_range(self.zone, bits.map(|at| self.first.plus(at)));
        let room = &mut self.room;
        self.zone.allocator().with_buddy(|buddy, _| buddy.ledger.end_capture(room));
    }
}

/// Frees single frames that are in use with one reference, directly to the buddy lists.
pub(crate) fn free_contig_range(zone: &Zone, frames: impl IntoIterator<Item = Pfn>) {
    let mut frames = frames.into_iter().peekable();
    // In short turns, so that no thread waits long for the zone lock.
    while frames.peek().is_some() {
        let turn = put_references(zone, frames.by_ref().take(LOCK_BATCH));
        zone.allocator().free_frames(turn, |_| {});
    }
}

/// Puts a reference of each frame and returns the frames whose last reference it was.
fn put_references(zone: &Zone, frames: impl Iterator<Item = Pfn>) -> Vec<Pfn> {
    frames.filter(|&pfn| zone.tables().frames.put_last(pfn).is_some()).collect()
}

fn has_bit(bits: &[u64], at: u32) -> bool {
    bits[at as usize / 64] >> (at % 64) & 1 == 1
}

fn set_bit(bits: &mut [u64], at: u32) {
    bits[at as usize / 64] |= 1 << (at % 64);
}

/// Checks that a frame that is not free can be moved.
fn check_movable(zone: &Zone, pfn: Pfn) -> Result<(), ContigError> {
    let state = zone.tables().frames.state(pfn);
    match (state.kind(), state.order()) {
        // If another thread has isolated it, it may be movable again or free soon.
        (Some(Kind::Used), Some(Order::SINGLE)) if zone.can_move(state) || state.is_isolated() => {
            Ok(())
        }
        // A frozen frame will soon be free or have an owner.
        (Some(Kind::Cached | Kind::Free | Kind::Frozen), _) => Err(ContigError::Busy { pfn }),
        _ => Err(ContigError::Unmovable { pfn }),
    }
}

/// Returns the first frame of `first..end`, which lies in one pageblock, that cannot be moved.
pub(crate) fn first_unmovable(zone: &Zone, first: Pfn, end: Pfn) -> Option<Pfn> {
    let blocks = &zone.tables().blocks;
    let is_committed = blocks.state(first.block()).commit_state == CommitState::Committed;
    let frames = if is_committed { first.0..end.0 } else { 0..0 };
    let mut taken = frames.map(Pfn).filter(|&pfn| !blocks.is_free(pfn));
    taken.find(|&pfn| matches!(check_movable(zone, pfn), Err(ContigError::Unmovable { .. })))
}

/// The targets of a capture: frames outside of its range. The old frames stay with the capture.
struct CaptureTargets<'c, 'z> {
    capture: &'c mut ContigCapture<'z>,
    /// Free frames taken and not used yet, without references.
    free: Vec<Pfn>,
    /// What lands in the end: frames in `free`, and targets whose old frames the capture kept.
    in_flight: InFlight,
    /// Frames that the capture kept.
    kept: u64,
}

impl CaptureTargets<'_, '_> {
    fn refill(&mut self) {
        let ContigCapture { zone, first, frames: len, .. } = *self.capture;
        let mut frames = [Pfn(0); BATCH];
        loop {
            let taken = zone.allocator().with_buddy(|buddy, tables| {
                let count = buddy.take_frames(tables, MigrateType::Movable, &mut frames);
                (count, buddy.ledger.begin_flight(count as u64))
            });
            let Some((count, in_flight)) = taken else { return };
            self.in_flight.join(in_flight);
            add(&zone.events().compact_free_scanned, count as u64);
            for &pfn in frames[..count].iter().rev() {
                // The capture keeps a frame of the range that became free meanwhile.
                if (first..first.plus(len)).contains(&pfn) {
                    self.keep(pfn);
                } else {
                    self.free.push(pfn);
                }
            }
            if count == 0 || !self.free.is_empty() {
                return;
            }
        }
    }

    /// Adds a frame without references to the capture.
    fn keep(&mut self, pfn: Pfn) {
        let capture = &mut *self.capture;
        capture.zone.tables().frames.change(pfn, State::CACHED, State::used(Order::SINGLE));
        set_bit(&mut capture.captured, pfn.0 - capture.first.0);
        self.kept += 1;
    }
}

impl<'z> Targets<'z> for CaptureTargets<'_, 'z> {
    fn next(&mut self, _: Pfn) -> Option<Target<'z>> {
        if self.free.is_empty() {
            self.refill();
        }
        let pfn = self.free.pop()?;
        let one = self.in_flight.split_one();
        Some(Target::from_cached(self.capture.zone.allocator(), pfn, one))
    }

    fn free_source(&mut self, old: MigratedSource<'z>) {
        let (pfn, arrived) = old.end_isolation();
        self.in_flight.join(arrived);
        // Otherwise another thread has a reference and frees the frame when it puts it.
        if let Some(pfn) = pfn {
            self.keep(pfn);
        }
    }
}

impl Drop for CaptureTargets<'_, '_> {
    fn drop(&mut self) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let ContigCapture { zone, room, .. } = &mut *self.capture;
        let kept = self.kept;
        zone.allocator().free_frames(self.free.drain(..), |buddy| {
            buddy.ledger.captured(room, kept);
            buddy.ledger.land(in_flight);
        });
    }
}
