//! The guards of a chain and what they permit.

#![expect(unsafe_code, reason = "this file alone turns frame bytes into slices")]

use std::ops::Range;

use sync::atomic::{AtomicU32, Ordering};

use super::chains::{FrameChains, NO_FRAME, frame_at};
use super::id::ChainId;
use super::state::ChainState;
use crate::alloc::alloc_frozen;
use crate::error::AllocError;
use crate::geometry::FRAME_SIZE;
use crate::migrate::Owner;
use crate::page::State;
use crate::units::Pfn;
use crate::zone::{Committed, LockedFrame, MigrateError, Reclaim, Reservation, Target};

/// What a guard finds when it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the last guard to leave must do the pending work"]
pub enum ReleaseStatus {
    /// No work is left.
    Clean,
    /// No guard is left, but work of another thread: the caller does it, with no lock held.
    Pending,
}

/// A chain held for reading, together with other readers. Dropping it leaves; only
/// [`Shared::release`] reports pending work.
#[derive(Debug)]
pub struct Shared<'e> {
    pub(super) chains: &'e FrameChains,
    pub(super) id: ChainId,
    pub(super) record: &'e [AtomicU32],
    pub(super) tag: u8,
}

impl Shared<'_> {
    /// Returns the chain's id.
    #[must_use]
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// Returns the chain's tag.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.tag
    }

    /// Returns whether this is the only guard. Stale as soon as it is returned.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        // Relaxed: a hint, and this guard is counted.
        ChainState(self.record[0].load(Ordering::Relaxed)).readers() == 1
    }

    /// Returns the frame at `position`, which stays there as long as this guard lives.
    #[must_use]
    pub fn frame(&self, position: usize) -> Option<Pfn> {
        frame_at(self.record, position)
    }

    /// Returns the bytes `range` of the chain, counted from its first frame, in two pieces. The
    /// second piece is empty when the range lies in one frame or in two neighbours in the arena.
    /// Returns `None` when it crosses more than one frame boundary or a frame is not there.
    #[must_use]
    pub fn pieces(&self, range: Range<usize>) -> Option<(&[u8], &[u8])> {
        let arena = &self.chains.zone().allocator().arena;
        let span = FrameSpan::of(self.record, range, |pfn| arena.note_read(pfn))?;
        // SAFETY: INV-CHAIN-1 and INV-CHAIN-2: these frames belong to this chain alone. While
        // this guard lives there is no exclusive one (INV-CHAIN-3), so no thread writes the bytes
        // or detaches the frames. The pieces lie inside these frames, which are neighbours where
        // a piece spans two (FrameSpan::of). Arena bytes are initialised for the arena's life
        // (INV-MAP-2). The slices borrow the guard.
        let piece = |(pfn, offset, len): (Pfn, usize, usize)| unsafe {
            std::slice::from_raw_parts(arena.frame_ptr(pfn).as_ptr().add(offset), len)
        };
        Some((piece(span.first), span.second.map_or(&[], piece)))
    }

    /// Returns whether memory behind `range` has failed by now. Bytes copied from it before this
    /// call are not valid then. One load while no memory of the zone has failed.
    #[inline]
    #[must_use]
    pub fn has_failed(&self, range: Range<usize>) -> bool {
        has_failed(self.chains, self.record, range)
    }

    /// Leaves the chain and returns whether pending work is now the caller's.
    pub fn release(self) -> ReleaseStatus {
        std::mem::ManuallyDrop::new(self).leave()
    }

    fn leave(&self) -> ReleaseStatus {
        // Release: our reads are over before the next exclusive holder (Acquire in `try_exclusive`)
        // changes bytes. Acquire pairs with `mark_pending`, whose work the caller may have to do.
        let before = ChainState(self.record[0].fetch_sub(ChainState::READER, Ordering::AcqRel));
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

/// A chain held exclusively. Dropping it leaves; only [`Exclusive::release`] reports pending work.
#[derive(Debug)]
pub struct Exclusive<'e> {
    pub(super) chains: &'e FrameChains,
    pub(super) id: ChainId,
    pub(super) record: &'e [AtomicU32],
}

impl Exclusive<'_> {
    /// Returns the chain's id.
    #[must_use]
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// Returns the bytes `range` for writing, in two pieces as [`Shared::pieces`].
    #[must_use]
    pub fn pieces_mut(&mut self, range: Range<usize>) -> Option<(&mut [u8], &mut [u8])> {
        let arena = &self.chains.zone().allocator().arena;
        let span = FrameSpan::of(self.record, range, |pfn| arena.note_write(pfn))?;
        // SAFETY: INV-CHAIN-1 and INV-CHAIN-3: these frames belong to this chain alone, and this
        // is its only guard, borrowed mutably. The two pieces do not overlap: they lie in two
        // different frames. Bounds and initialisation as in `Shared::pieces`.
        let piece = |(pfn, offset, len): (Pfn, usize, usize)| unsafe {
            std::slice::from_raw_parts_mut(arena.frame_ptr(pfn).as_ptr().add(offset), len)
        };
        Some((piece(span.first), span.second.map_or(&mut [], piece)))
    }

    /// Returns the frame at `position`.
    #[must_use]
    pub fn frame(&self, position: usize) -> Option<Pfn> {
        frame_at(self.record, position)
    }

    /// Returns whether `position` holds a frame. False past the end.
    #[must_use]
    pub fn has_frame(&self, position: usize) -> bool {
        self.frame(position).is_some()
    }

    /// Fills the empty `position` with a frame from the zone. Its bytes are arbitrary: the owner
    /// writes them before a reader sees them.
    ///
    /// # Errors
    /// [`AllocError`] when the zone has no frame to allocate; nothing has changed.
    ///
    /// # Panics
    /// When the chain has no such position or it already holds a frame.
    pub fn attach(&mut self, position: usize, reclaim: Reclaim) -> Result<(), AllocError> {
        self.fill(position, |owner| alloc_frozen(owner.zone(), owner.migrate_type(), reclaim))
    }

    /// Fills the empty `position` as [`Exclusive::attach`] does, with a reserved frame.
    ///
    /// # Errors
    /// Those of [`Reservation::take`], and [`AllocError::Limit`] for a reservation of another zone.
    ///
    /// # Panics
    /// When the chain has no such position or it already holds a frame.
    pub fn attach_reserved(
        &mut self,
        position: usize,
        from: &mut Reservation<'_>,
    ) -> Result<(), AllocError> {
        self.fill(position, |owner| {
            if !from.is_of(owner.zone()) {
                return Err(AllocError::Limit);
            }
            from.take_as(owner.migrate_type(), State::FROZEN)
        })
    }

    /// Fills the empty `position` with the frozen frame of this zone that `take` returns.
    fn fill(
        &mut self,
        position: usize,
        take: impl FnOnce(&Owner) -> Result<Pfn, AllocError>,
    ) -> Result<(), AllocError> {
        assert!(!self.has_frame(position), "position {position} already holds a frame");
        let word = &self.record[1 + position];
        let owner = self.chains.owner();
        let pfn = take(owner)?;
        owner.set_private(pfn, self.id.to_bits(), position as u8);
        // Relaxed: published by the Release in `leave`.
        word.store(pfn.0 + 1, Ordering::Relaxed);
        // Last: from here on it may be isolated, and moved when this guard has left.
        owner.publish_frame(pfn);
        Ok(())
    }

    /// Detaches the frame at `position` and frees it; returns `false` when there is none. The OS
    /// is not called: see [`FrameChains::release_excess_if_due`].
    pub fn detach(&mut self, position: usize) -> bool {
        let Some(pfn) = frame_at(self.record, position) else { return false };
        // Relaxed: as in `fill`.
        self.record[1 + position].store(NO_FRAME, Ordering::Relaxed);
        self.chains.owner().release(pfn);
        true
    }

    /// Moves the content of the frame at `position`, which should be `from`, to the frame `to`,
    /// which replaces it. The old frame is left to migration.
    pub(super) fn migrate<'z>(
        &mut self,
        position: usize,
        from: &LockedFrame<'_>,
        to: Target<'z>,
    ) -> Result<Committed, MigrateError<'z>> {
        if frame_at(self.record, position) != Some(from.pfn()) {
            return Err(MigrateError::Gone(to));
        }
        if !to.is_fresh_in(self.chains.zone().allocator()) {
            return Err(MigrateError::Failed(to));
        }
        let arena = &self.chains.zone().allocator().arena;
        arena.note_read(from.pfn());
        arena.note_write(to.pfn());
        // SAFETY: `from` belongs to this chain alone (INV-CHAIN-1), and this is its only guard
        // (INV-CHAIN-3). `to` is a frozen frame of this zone, checked above, so it is in no chain
        // and no other thread has it. Both are FRAME_SIZE bytes inside the arena (INV-ARENA-1).
        unsafe {
            let (source, target) =
                (arena.frame_ptr(from.pfn()).as_ptr(), arena.frame_ptr(to.pfn()).as_ptr());
            std::ptr::copy_nonoverlapping(source, target, FRAME_SIZE);
        }
        // Checked after the copy, which can meet failed memory itself. The old frame keeps its
        // owner, which reports the failure to its readers.
        let has_failed = |pfn| self.chains.zone().has_failed(pfn);
        if has_failed(from.pfn()) || has_failed(to.pfn()) {
            return Err(MigrateError::Failed(to));
        }
        let committed = to.commit_in_chain(from, self.chains.owner().id())?;
        // Relaxed: published by the Release in `leave`.
        self.record[1 + position].store(committed.pfn().0 + 1, Ordering::Relaxed);
        Ok(committed)
    }

    /// Returns whether memory behind `range` has failed, as [`Shared::has_failed`] does. Bytes
    /// written there are lost as well.
    #[inline]
    #[must_use]
    pub fn has_failed(&self, range: Range<usize>) -> bool {
        has_failed(self.chains, self.record, range)
    }

    /// Clears the pending mark: the caller is about to do the work. Returns whether it was set.
    pub fn take_pending(&mut self) -> bool {
        // Acquire pairs with the Release in `mark_pending`.
        let clear = |state: ChainState| Some(state.clear_pending());
        ChainState::update(&self.record[0], Ordering::Acquire, clear)
            .is_some_and(ChainState::is_pending)
    }

    /// Leaves the chain and returns whether pending work is now the caller's.
    pub fn release(self) -> ReleaseStatus {
        std::mem::ManuallyDrop::new(self).leave()
    }

    /// Destroys the chain: its frames are freed and its number becomes free. The OS is not
    /// called: see [`FrameChains::release_excess_if_due`].
    pub fn destroy(mut self) {
        for position in 0..self.id.kind().capacity() {
            let _ = self.detach(position);
        }
        // Release: there is no other guard. A stale reader that finds the number in use again
        // must not see the record half cleared.
        let before = self.record[0].swap(ChainState::VACANT.0, Ordering::Release);
        self.chains.wake(self.id, ChainState(before));
        let ids = &self.chains.records(self.id.kind()).ids;
        ids.free_without_release(self.id.index() as u32);
        std::mem::forget(self);
    }

    fn leave(&self) -> ReleaseStatus {
        // Release: the next guard (Acquire in `try_share` and `try_exclusive`) sees the bytes and
        // frame numbers written under this one. Acquire: as in `Shared::leave`.
        let word = self.record[0].fetch_and(ChainState::UNLOCK_MASK, Ordering::AcqRel);
        let before = ChainState(word);
        self.chains.wake(self.id, before);
        if before.is_pending() { ReleaseStatus::Pending } else { ReleaseStatus::Clean }
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

/// A byte range of a chain as ranges of one or two frames: frame, offset and length.
struct FrameSpan {
    first: (Pfn, usize, usize),
    second: Option<(Pfn, usize, usize)>,
}

impl FrameSpan {
    /// Notes the access to each frame of the range; `None` as [`Shared::pieces`].
    fn of(record: &[AtomicU32], range: Range<usize>, note: impl Fn(Pfn)) -> Option<Self> {
        let (position, offset) = (range.start / FRAME_SIZE, range.start % FRAME_SIZE);
        let len = range.end.checked_sub(range.start)?;
        let first = frame_at(record, position)?;
        let head = len.min(FRAME_SIZE - offset);
        if head == len {
            note(first);
            return Some(Self { first: (first, offset, len), second: None });
        }
        let second = frame_at(record, position + 1).filter(|_| len - head <= FRAME_SIZE)?;
        [first, second].into_iter().for_each(note);
        // Neighbours in the arena are neighbours in the address space: one piece.
        if second.0 == first.0 + 1 {
            return Some(Self { first: (first, offset, len), second: None });
        }
        Some(Self { first: (first, offset, head), second: Some((second, 0, len - head)) })
    }
}

fn has_failed(chains: &FrameChains, record: &[AtomicU32], range: Range<usize>) -> bool {
    let zone = chains.zone();
    let mut frames = (range.start / FRAME_SIZE..range.end.div_ceil(FRAME_SIZE))
        .filter_map(|at| frame_at(record, at));
    zone.failure_reports() != 0 && frames.any(|pfn| zone.has_failed(pfn))
}
