//! The guards: what holding a chain lets one do.

#![expect(unsafe_code, reason = "frame bytes become slices here, and nowhere else")]

use std::ops::Range;

use sync::atomic::{AtomicU32, Ordering};

use super::state::ChainState;
use super::{ChainId, FrameChains, NO_FRAME};
use crate::migrate::{Committed, LockedFrame, MigrateError, Target};
use crate::{AllocError, FRAME_SIZE, OwnerId, Pfn, Reclaim, Reservation};

/// What a guard that leaves finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "pending work is done by whoever leaves last, or never"]
pub enum ReleaseStatus {
    /// Nothing to do.
    Clean,
    /// Somebody left work behind, and nobody else is inside: it is yours to do, without any lock held.
    Pending,
}

/// A chain held for reading, together with others. Dropping it leaves; pending work is then only told to [`Shared::release`]'s callers.
#[derive(Debug)]
pub struct Shared<'e> {
    chains: &'e FrameChains,
    id: ChainId,
    record: &'e [AtomicU32],
    tag: u8,
}

impl<'e> Shared<'e> {
    pub(super) fn new(
        chains: &'e FrameChains,
        id: ChainId,
        record: &'e [AtomicU32],
        tag: u8,
    ) -> Self {
        Self { chains, id, record, tag }
    }

    /// Which chain.
    #[must_use]
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// The owner's byte.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.tag
    }

    /// Whether nobody else is inside. Stale as soon as it is returned.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        // Relaxed: a hint, and we are inside.
        ChainState::from_bits(self.record[0].load(Ordering::Relaxed)).readers() == 1
    }

    /// The frame at `position`, which stays there as long as this guard lives.
    #[must_use]
    pub fn frame(&self, position: usize) -> Option<Pfn> {
        frame_at(self.record, position)
    }

    /// The bytes `range` of the chain, counted from its first frame: at most two frames' worth, the second piece empty where the frames are
    /// neighbours or the range does not cross a border.
    ///
    /// `None` when the range crosses more than one border or touches a frame that is not there.
    #[must_use]
    pub fn pieces(&self, range: Range<usize>) -> Option<(&[u8], &[u8])> {
        let span = FrameSpan::of(self.record, range)?;
        let arena = self.chains.zone().arena();
        for pfn in span.frames() {
            arena.note_read(pfn);
        }
        // SAFETY: INV-CHAIN-1 and INV-CHAIN-2: these frames are this chain's alone; while this guard lives no exclusive one does
        // (INV-CHAIN-3), so nobody writes the bytes or takes the frames away. The pieces lie inside these frames, which are neighbours where a piece spans two (FrameSpan::of), and arena
        // bytes are initialised for the arena's life (INV-MAP-2). The slices borrow the guard.
        let piece = |(pfn, offset, len): (Pfn, usize, usize)| unsafe {
            std::slice::from_raw_parts(arena.frame_ptr(pfn).as_ptr().add(offset), len)
        };
        Some((piece(span.first), span.second.map_or(&[], piece)))
    }

    /// Whether memory that `range` lies in has failed, by now: what was copied out of it before this call is not to be trusted then. One load when
    /// nothing in the zone ever has.
    #[inline]
    #[must_use]
    pub fn has_failed(&self, range: Range<usize>) -> bool {
        has_failed(self.chains, self.record, range)
    }

    /// Leaves, and tells whether pending work is now the caller's.
    pub fn release(self) -> ReleaseStatus {
        let leaving = self.leave();
        std::mem::forget(self);
        leaving
    }

    fn leave(&self) -> ReleaseStatus {
        // Release: our reads are over before whoever closes the chain next (Acquire in `try_exclusive`) changes bytes. Acquire pairs with
        // `mark_pending`, whose work we may have to do.
        let before =
            ChainState::from_bits(self.record[0].fetch_sub(ChainState::READER, Ordering::AcqRel));
        if before.is_pending() && before.readers() == 1 {
            ReleaseStatus::Pending
        } else {
            ReleaseStatus::Clean
        }
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

/// A chain held alone. Dropping it leaves; pending work is then only told to [`Exclusive::release`]'s callers.
#[derive(Debug)]
pub struct Exclusive<'e> {
    chains: &'e FrameChains,
    id: ChainId,
    record: &'e [AtomicU32],
}

impl<'e> Exclusive<'e> {
    pub(super) fn new(chains: &'e FrameChains, id: ChainId, record: &'e [AtomicU32]) -> Self {
        Self { chains, id, record }
    }

    /// Which chain.
    #[must_use]
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// The bytes `range` for writing; as [`Shared::pieces`].
    #[must_use]
    pub fn pieces_mut(&mut self, range: Range<usize>) -> Option<(&mut [u8], &mut [u8])> {
        let span = FrameSpan::of(self.record, range)?;
        let arena = self.chains.zone().arena();
        for pfn in span.frames() {
            arena.note_write(pfn);
        }
        // SAFETY: INV-CHAIN-1 and INV-CHAIN-3: these frames are this chain's alone and this is its only guard, borrowed mutably. The
        // two pieces do not overlap: they lie in two different frames. Bounds and initialisation as in `Shared::pieces`.
        let piece = |(pfn, offset, len): (Pfn, usize, usize)| unsafe {
            std::slice::from_raw_parts_mut(arena.frame_ptr(pfn).as_ptr().add(offset), len)
        };
        Some((piece(span.first), span.second.map_or(&mut [], piece)))
    }

    /// The frame at `position`.
    #[must_use]
    pub fn frame(&self, position: usize) -> Option<Pfn> {
        frame_at(self.record, position)
    }

    /// Whether place `position` holds a frame. False past the end.
    #[must_use]
    pub fn has_frame(&self, position: usize) -> bool {
        // Relaxed: frame numbers change only under this guard (INV-CHAIN-3).
        self.record.get(1 + position).is_some_and(|word| word.load(Ordering::Relaxed) != NO_FRAME)
    }

    /// Fills the empty place `position` with a frame from the zone. Its bytes are whatever they were: the owner writes before it shows them.
    ///
    /// # Errors
    /// [`AllocError`] when the zone has none to give; nothing has changed.
    ///
    /// # Panics
    /// When there is no such place or it is taken.
    pub fn attach(&mut self, position: usize, reclaim: Reclaim) -> Result<(), AllocError> {
        assert!(!self.has_frame(position), "a place is filled once");
        let owner = &self.chains.owner;
        let pfn = owner.zone().alloc_frozen(owner.migrate_type(), reclaim)?;
        self.fill(position, pfn);
        Ok(())
    }

    /// As [`Exclusive::attach`], with a frame that was reserved.
    ///
    /// # Errors
    /// As [`Reservation::take`]; a reservation of another zone is none here.
    ///
    /// # Panics
    /// When there is no such place or it is taken.
    pub fn attach_reserved(
        &mut self,
        position: usize,
        from: &mut Reservation<'_>,
    ) -> Result<(), AllocError> {
        assert!(!self.has_frame(position), "a place is filled once");
        let owner = &self.chains.owner;
        if !from.is_of(owner.zone()) {
            return Err(AllocError::Limit);
        }
        let pfn = from.take_frozen(owner.migrate_type())?;
        self.fill(position, pfn);
        Ok(())
    }

    /// Puts a frozen frame of this zone into the empty place `position`.
    fn fill(&mut self, position: usize, pfn: Pfn) {
        let place = &self.record[1 + position];
        let owner = &self.chains.owner;
        owner.set_private(pfn, self.id.to_bits(), position as u8);
        // Relaxed: published by the Release in `leave`.
        place.store(pfn.0 + 1, Ordering::Relaxed);
        // Last: from here on it may be isolated. It cannot be moved before we leave.
        owner.publish_frame(pfn);
    }

    /// Gives the frame at `position` back to the zone; `false` when there is none. The OS is not called: see [`FrameChains::release_excess_if_due`].
    pub fn detach(&mut self, position: usize) -> bool {
        // Relaxed: as in `attach`.
        let Some(place) = self.record.get(1 + position) else { return false };
        let number = place.load(Ordering::Relaxed);
        if number == NO_FRAME {
            return false;
        }
        place.store(NO_FRAME, Ordering::Relaxed);
        self.chains.owner.release(Pfn(number - 1));
        true
    }

    /// Moves the content of the frame at `position`, which should be `from`, to the frame `to`, which takes its place. The old frame is left to
    /// migration. When the place holds another frame or none, nothing changes.
    pub(super) fn migrate<'z>(
        &mut self,
        position: usize,
        from: &LockedFrame<'_>,
        to: Target<'z>,
    ) -> Result<Committed, MigrateError<'z>> {
        if frame_at(self.record, position) != Some(from.pfn()) {
            return Err(MigrateError::Gone(to));
        }
        if !to.is_fresh_in(self.chains.zone()) {
            return Err(MigrateError::Failed(to));
        }
        let arena = self.chains.zone().arena();
        arena.note_read(from.pfn());
        arena.note_write(to.pfn());
        // SAFETY: `from` is this chain's alone (INV-CHAIN-1), whose only guard this is (INV-CHAIN-3); `to` is a frozen frame of this
        // zone, checked above, so it is in no chain and nobody else knows it. Both are FRAME_SIZE bytes inside the arena (INV-ARENA-1).
        unsafe {
            let (source, target) =
                (arena.frame_ptr(from.pfn()).as_ptr(), arena.frame_ptr(to.pfn()).as_ptr());
            std::ptr::copy_nonoverlapping(source, target, FRAME_SIZE);
        }
        // Afterwards: the copy itself can meet failed memory. The old frame keeps its owner, who tells its readers.
        let has_failed = |pfn| self.chains.zone().has_failed(pfn);
        if has_failed(from.pfn()) || has_failed(to.pfn()) {
            return Err(MigrateError::Failed(to));
        }
        let accepted = to.commit_in_chain(from, self)?;
        // Relaxed: published by the Release in `leave`.
        self.record[1 + position].store(accepted.pfn().0 + 1, Ordering::Relaxed);
        if let (Some(lru), Some(place)) = (self.chains.lru(), from.lru_state()) {
            // While we hold the chain nobody lets go of the new frame. The old one is on no list and stays off (S-37).
            lru.put_back(accepted.pfn(), place);
        }
        Ok(accepted)
    }

    /// As [`Shared::has_failed`]; what was written there is lost as well.
    #[inline]
    #[must_use]
    pub fn has_failed(&self, range: Range<usize>) -> bool {
        has_failed(self.chains, self.record, range)
    }

    pub(crate) fn owner_id(&self) -> OwnerId {
        self.chains.owner.id()
    }

    /// Forgets the pending mark: the caller is about to do the work. Returns whether there was one.
    pub fn take_pending(&mut self) -> bool {
        let mut seen = ChainState::from_bits(self.record[0].load(Ordering::Relaxed));
        // Only marks can be added while we hold the chain, so this ends. Acquire pairs with the Release in `mark_pending`.
        loop {
            let unmarked = seen.clear_pending();
            match self.record[0].compare_exchange_weak(
                seen.bits(),
                unmarked.bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return seen.is_pending(),
                Err(now) => seen = ChainState::from_bits(now),
            }
        }
    }

    /// Leaves, and tells whether pending work is now the caller's.
    pub fn release(self) -> ReleaseStatus {
        let leaving = self.leave();
        std::mem::forget(self);
        leaving
    }

    /// Ends the chain: its frames go back to the zone and its number becomes free. The OS is not
    /// called: see [`FrameChains::release_excess_if_due`].
    pub fn destroy(mut self) {
        for position in 0..self.id.kind().capacity() {
            let _ = self.detach(position);
        }
        // Release: nobody can be inside; a stale reader that finds the number used again must not see it half cleared.
        let before = self.record[0].swap(ChainState::VACANT.bits(), Ordering::Release);
        self.chains.wake(self.id, ChainState::from_bits(before));
        self.chains.free_id(self.id);
        std::mem::forget(self);
    }

    fn leave(&self) -> ReleaseStatus {
        // Release: the bytes and frame numbers we wrote are seen by whoever enters next (Acquire in `share` and `try_exclusive`). Acquire
        // pairs with `mark_pending`, whose work we may have to do.
        let before = ChainState::from_bits(
            self.record[0].fetch_and(ChainState::UNLOCK_MASK, Ordering::AcqRel),
        );
        self.chains.wake(self.id, before);
        if before.is_pending() { ReleaseStatus::Pending } else { ReleaseStatus::Clean }
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

/// A byte range of a chain as places in one or two frames.
///
/// Frames that are neighbours in the arena are neighbours in our address space, so a range across both is one piece.
struct FrameSpan {
    first: (Pfn, usize, usize),
    second: Option<(Pfn, usize, usize)>,
    joined: Option<Pfn>,
}

impl FrameSpan {
    fn of(record: &[AtomicU32], range: Range<usize>) -> Option<Self> {
        let (position, offset) = (range.start / FRAME_SIZE, range.start % FRAME_SIZE);
        let len = range.end.checked_sub(range.start)?;
        let first = frame_at(record, position)?;
        let head = len.min(FRAME_SIZE - offset);
        if head == len {
            return Some(Self { first: (first, offset, len), second: None, joined: None });
        }
        let second = frame_at(record, position + 1)?;
        if len - head > FRAME_SIZE {
            return None;
        }
        if second.0 == first.0 + 1 {
            return Some(Self { first: (first, offset, len), second: None, joined: Some(second) });
        }
        Some(Self {
            first: (first, offset, head),
            second: Some((second, 0, len - head)),
            joined: None,
        })
    }

    fn frames(&self) -> impl Iterator<Item = Pfn> {
        [Some(self.first.0), self.second.map(|(pfn, ..)| pfn), self.joined].into_iter().flatten()
    }
}

fn has_failed(chains: &FrameChains, record: &[AtomicU32], range: Range<usize>) -> bool {
    let zone = chains.zone();
    let mut frames = (range.start / FRAME_SIZE..range.end.div_ceil(FRAME_SIZE))
        .filter_map(|at| frame_at(record, at));
    zone.failure_reports() != 0 && frames.any(|pfn| zone.has_failed(pfn))
}

pub(super) fn frame_at(record: &[AtomicU32], position: usize) -> Option<Pfn> {
    // Relaxed: the caller holds a guard, so the numbers stand still (INV-CHAIN-3), or only wants a hint.
    let number = record.get(1 + position)?.load(Ordering::Relaxed);
    (number != NO_FRAME).then(|| Pfn(number - 1))
}
