//! A capture: takes a range of neighbouring frames, whatever their state is.
//!
//! Free frames of the range are taken at once. Movable ones are isolated and migrated elsewhere,
//! and the old frame is *kept*: the isolation's reference becomes the capture's. The old frame is
//! never on a free list, so no other allocation can take it. A captured frame is in use as a
//! single frame, with one reference.
//!
//! All or nothing: before anything moves, every frame in use of a pageblock must be isolated.
//! Dropping a capture frees the frames it holds.
//!
//! # The limit
//! A capture first reserves room for all of its frames. Each frame that it captures then counts
//! against the limit as a frame in use and no longer as reserved. Content that is moved away
//! counts before and after the move.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::buddy::{CaptureRoom, InFlight};
use crate::budget::Deadline;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::{Isolated, MigratedSource, Targets};
use crate::page::{Kind, Put, State};
use crate::units::{MigrateType, Order, Pfn};
use crate::zone::{CpuListsState, MigrateMode, MovableOps, Target, Zone, add};

/// How often a capture tries a pageblock.
const MAX_PASSES: u32 = 10;
/// The most targets taken at once.
const BATCH: usize = 32;
/// The most frames freed in one turn with the zone lock.
const LOCK_BATCH: usize = 128;

/// Why a capture failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaptureError {
    Limit,
    /// The zone is poisoned.
    Poisoned,
    NoTargets,
    OutOfTime,
    /// A movable frame that its owner or another thread uses now.
    Busy(Pfn),
    /// A frame without an owner that could move it.
    Unmovable(Pfn),
}

/// A range of frames that is being captured.
#[derive(Debug)]
pub(crate) struct ContigCapture<'z> {
    zone: &'z Zone,
    first: Pfn,
    frames: u32,
    /// A bit for each frame of the range: set when it is captured.
    captured: Vec<u64>,
    /// Room below the limit for the frames that are not captured yet.
    room: CaptureRoom,
    moved: u64,
}

impl<'z> ContigCapture<'z> {
    /// Reserves room for the frames, then drains each per-CPU list: frames in the lists have no
    /// owner and may be in the range.
    ///
    /// Locking: each list once, one after the other, and under it the zone lock if the list holds
    /// frames. The caller holds no lock of an owner.
    pub(crate) fn begin(zone: &'z Zone, first: Pfn, frames: u32) -> Result<Self, CaptureError> {
        zone.allocator().process_memory_failures();
        let captured = vec![0; frames.div_ceil(64) as usize];
        // Refuse only once all lists are drained: their frames count against the limit.
        let look = zone.allocator().with_drained_lists(|buddy, lists| {
            let room = buddy.ledger.keep_for_capture(frames.into());
            (room.is_some() || lists == CpuListsState::Empty).then_some(Ok(room))
        });
        // This also waits for threads that are about to put a frame on a list.
        match look {
            Ok(Some(room)) => {
                let capture = Self { zone, first, frames, captured, room, moved: 0 };
                zone.allocator().drain_each_list();
                Ok(capture)
            }
            Ok(None) => Err(CaptureError::Limit),
            Err(_) => Err(CaptureError::Poisoned),
        }
    }

    /// Returns how many frames were moved away.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Captures all frames, pageblock by pageblock.
    pub(crate) fn acquire(
        &mut self,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), CaptureError> {
        let (first, frames) = (self.first, self.frames);
        // Take the free frames of the whole range first, so that no content moves to them.
        for (first, end) in pageblock_parts(first, frames) {
            if deadline.has_passed() {
                return Err(CaptureError::OutOfTime);
            }
            self.take_free(first, end);
        }
        pageblock_parts(first, frames)
            .try_for_each(|(first, end)| self.acquire_range(first, end, mode, deadline))
    }

    /// Captures the frames `first..end` of one pageblock, in several passes.
    fn acquire_range(
        &mut self,
        first: Pfn,
        end: Pfn,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), CaptureError> {
        let mut error = CaptureError::Busy(first);
        for pass in 0..MAX_PASSES {
            // Frames may have become free since the last pass.
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
            // Isolate all frames in use, then move their content.
            error = match self
                .isolate_rest(first, end)
                .and_then(|batch| self.migrate_out(batch, mode, deadline))
            {
                Err(last @ (CaptureError::NoTargets | CaptureError::OutOfTime)) => {
                    return Err(last);
                }
                Err(other) => {
                    // Ask once: an owner that keeps its pins then will keep them later, too.
                    if pass == 0 && mode == MigrateMode::Sync {
                        self.notify_owners(first, end);
                    }
                    other
                }
                Ok(()) => continue,
            };
        }
        // Another thread may have freed the last frames meanwhile.
        self.take_free(first, end);
        if (first.0..end.0).all(|frame| self.is_captured(Pfn(frame))) { Ok(()) } else { Err(error) }
    }

    /// Captures the free frames of `first..end`.
    fn take_free(&mut self, first: Pfn, end: Pfn) {
        let Self { zone, first: start, captured, room, .. } = self;
        zone.allocator().with_buddy(|buddy, tables| {
            let set = |pfn: Pfn| set_bit(captured, pfn.0 - start.0);
            buddy.take_range(tables, first, end, room, set);
        });
    }

    /// Asks the owners of the missing frames to unpin them.
    fn notify_owners(&self, first: Pfn, end: Pfn) {
        let missing = (first.0..end.0)
            .map(Pfn)
            .filter(|&pfn| !self.is_captured(pfn) && !self.zone.tables().blocks.is_free(pfn));
        for pfn in missing {
            let owner = self.zone.tables().frames.state(pfn).owner();
            let callbacks = owner.and_then(|owner| self.zone.registry().callbacks(owner));
            // A panic in the callback changes nothing here.
            let ask = |ops: &dyn MovableOps| ops.request_unpin(pfn);
            let _ = callbacks.map(|found| catch_unwind(AssertUnwindSafe(|| ask(&*found.ops))));
        }
    }

    /// Isolates every frame of the range that is in use, or none.
    fn isolate_rest(&self, first: Pfn, end: Pfn) -> Result<Vec<Isolated<'z>>, CaptureError> {
        let rest = || {
            (first.0..end.0)
                .map(Pfn)
                .filter(|&pfn| !self.is_captured(pfn) && !self.zone.tables().blocks.is_free(pfn))
        };
        // All of them must be movable.
        let mut cached = None;
        for pfn in rest() {
            match mobility_of(self.zone, pfn) {
                FrameMobility::Movable => {}
                FrameMobility::Cached => cached = Some(pfn),
                FrameMobility::Unmovable => return Err(CaptureError::Unmovable(pfn)),
            }
        }
        // Frames in per-CPU lists become free when the lists are drained.
        if let Some(pfn) = cached {
            self.zone.allocator().drain_lists_above(0);
            return Err(CaptureError::Busy(pfn));
        }
        rest().map(|pfn| self.zone.isolate(pfn).ok_or(CaptureError::Busy(pfn))).collect()
    }

    /// Moves frames out in batches and checks the deadline between them. Frames that it does not
    /// reach are put back.
    fn migrate_out(
        &mut self,
        mut rest: Vec<Isolated<'z>>,
        mode: MigrateMode,
        deadline: Deadline,
    ) -> Result<(), CaptureError> {
        let zone = self.zone;
        add(&zone.events().compact_isolated, rest.len() as u64);
        let mut room = CaptureTargets {
            capture: self,
            free: Vec::with_capacity(BATCH),
            in_flight: InFlight::default(),
            kept: 0,
            arrived: InFlight::default(),
        };
        let (mut moved, mut error) = (0, None);
        // Go on after a busy frame: only a lack of targets or of time ends the loop.
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

    fn contains(&self, pfn: Pfn) -> bool {
        (self.first.0..self.first.0 + self.frames).contains(&pfn.0)
    }

    fn is_captured(&self, pfn: Pfn) -> bool {
        let at = pfn.0 - self.first.0;
        self.captured[at as usize / 64] >> (at % 64) & 1 == 1
    }

    fn set_captured(&mut self, pfn: Pfn) {
        set_bit(&mut self.captured, pfn.0 - self.first.0);
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
        // Without references the frames are ours alone, and the bitmaps mark them as taken.
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
        let captured = (0..self.captured.len() as u32 * 64)
            .filter(|&at| self.captured[at as usize / 64] >> (at % 64) & 1 == 1);
        let frames: Vec<Pfn> = captured.map(|at| self.first.plus(at)).collect();
        free_contig_range(self.zone, frames);
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
    let last = |&pfn: &Pfn| match zone.tables().frames.put(pfn) {
        Ok(put) => put != Put::Shared,
        // Already unwinding: a second panic would abort. The frame is only lost.
        Err(_) if std::thread::panicking() => false,
        Err(error) => panic!("{error}"),
    };
    frames.filter(last).collect()
}

fn set_bit(bits: &mut [u64], at: u32) {
    bits[at as usize / 64] |= 1 << (at % 64);
}

/// Returns the parts of a range, split at pageblock boundaries.
pub(crate) fn pageblock_parts(first: Pfn, frames: u32) -> impl Iterator<Item = (Pfn, Pfn)> {
    let end = first.plus(frames);
    std::iter::successors(Some(first), move |at| Some(at.block().first().plus(PAGEBLOCK_FRAMES)))
        .take_while(move |&at| at < end)
        .map(move |at| (at, end.min(at.block().first().plus(PAGEBLOCK_FRAMES))))
}

/// What a capture can do with a frame that is not free.
enum FrameMobility {
    Movable,
    Cached,
    Unmovable,
}

fn mobility_of(zone: &Zone, pfn: Pfn) -> FrameMobility {
    let state = zone.tables().frames.state(pfn);
    match (state.kind(), state.order()) {
        // If another thread has isolated it, it may be movable again or free soon.
        (Some(Kind::Used), Some(Order::SINGLE)) if zone.can_move(state) || state.is_isolated() => {
            FrameMobility::Movable
        }
        // A frozen frame will soon be free or have an owner.
        (Some(Kind::Cached | Kind::Free | Kind::Frozen), _) => FrameMobility::Cached,
        _ => FrameMobility::Unmovable,
    }
}

/// Returns the first frame of `first..end`, which lies in one pageblock, that cannot be moved.
pub(crate) fn first_unmovable(zone: &Zone, first: Pfn, end: Pfn) -> Option<Pfn> {
    let frames = if zone.allocator().is_committed(first) { first.0..end.0 } else { 0..0 };
    let mut taken = frames.map(Pfn).filter(|&pfn| !zone.tables().blocks.is_free(pfn));
    taken.find(|&pfn| matches!(mobility_of(zone, pfn), FrameMobility::Unmovable))
}

/// The targets of a capture: frames outside of its range. The old frames stay with the capture.
struct CaptureTargets<'c, 'z> {
    capture: &'c mut ContigCapture<'z>,
    /// Free frames taken and not used yet, without references.
    free: Vec<Pfn>,
    /// The frames in `free` are in flight.
    in_flight: InFlight,
    /// Old frames that the capture kept.
    kept: u64,
    /// Targets that were in flight and now count against the limit.
    arrived: InFlight,
}

impl CaptureTargets<'_, '_> {
    fn refill(&mut self) {
        let zone = self.capture.zone;
        let mut frames = [Pfn(0); BATCH];
        loop {
            let taken = zone.allocator().with_buddy(|buddy, tables| {
                let count = buddy.take_frames(tables, MigrateType::Movable, &mut frames);
                (count, buddy.ledger.begin_flight(count as u64))
            });
            let Some((count, in_flight)) = taken else { return };
            self.in_flight.join(in_flight);
            add(&zone.events().free_scanned, count as u64);
            for &pfn in frames[..count].iter().rev() {
                // A frame of the range that became free meanwhile is no target: the capture keeps
                // it.
                if self.capture.contains(pfn) {
                    let arrived = self.in_flight.split_one();
                    self.keep(pfn, arrived);
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
    fn keep(&mut self, pfn: Pfn, arrived: InFlight) {
        self.capture.zone.tables().frames.change(pfn, State::CACHED, State::used(Order::SINGLE));
        self.capture.set_captured(pfn);
        self.kept += 1;
        self.arrived.join(arrived);
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
        match pfn {
            Some(pfn) => self.keep(pfn, arrived),
            // Another thread still has a reference and frees the frame when it puts it. The next
            // pass finds the frame.
            None => self.arrived.join(arrived),
        }
    }
}

impl Drop for CaptureTargets<'_, '_> {
    fn drop(&mut self) {
        // Free the unused targets, which are in flight no longer.
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.join(std::mem::take(&mut self.in_flight));
        let ContigCapture { zone, room, .. } = &mut *self.capture;
        let kept = self.kept;
        zone.allocator().free_frames(self.free.drain(..), |buddy| {
            buddy.ledger.captured(room, kept);
            buddy.ledger.land(arrived);
        });
    }
}
