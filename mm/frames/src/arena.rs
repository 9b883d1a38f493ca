//! The bytes of the frames: one reserved address range.

#![expect(unsafe_code, reason = "frame numbers become addresses here and nowhere else")]

use std::ptr::NonNull;
use std::sync::Arc;

use sys::memory_failure::FailedPages;
use sys::{Backing, MapError, Mapping};

use crate::geometry::{FRAME_SIZE, PAGEBLOCK_SIZE};
use crate::units::{BlockIndex, Pfn};

/// All frames of a zone, committed where they are touched, given back a pageblock at a time.
///
/// It knows addresses only. Who may use which bytes is decided by the zone (which frames are whose) and by the chain's lock.
///
/// # Invariants
/// - INV-ARENA-1: the mapping holds `frames * FRAME_SIZE` bytes, so every frame below `frames` lies wholly inside it.
#[derive(Debug)]
pub(crate) struct Arena {
    mapping: Mapping,
    frames: usize,
    /// What a model checker watches in place of the bytes: it cannot see through raw addresses.
    #[cfg(loom)]
    watched: Box<[loom::cell::UnsafeCell<()>]>,
}

#[cfg(loom)]
// SAFETY: the watched cells hold nothing; loom itself reports accesses that are not ordered.
unsafe impl Sync for Arena {}

impl Arena {
    /// Bytes for `frames` frames. Those whose memory fails are noted in `failed`.
    pub(crate) fn reserve(
        frames: usize,
        backing: Backing,
        failed: Arc<FailedPages>,
    ) -> Result<Self, MapError> {
        let len = frames.checked_mul(FRAME_SIZE).ok_or(MapError::Length { len: frames })?;
        let mut mapping = Mapping::reserve(len, backing)?;
        mapping.watch(failed);
        Ok(Self {
            mapping,
            frames,
            #[cfg(loom)]
            watched: (0..frames).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        })
    }

    /// Tells a model checker that the frame's bytes are about to be read; nothing in a normal build.
    pub(crate) fn note_read(&self, pfn: Pfn) {
        #[cfg(loom)]
        self.watched[pfn.index()].with(|_| ());
        let _ = pfn;
    }

    /// Tells a model checker that the frame's bytes are about to be written; nothing in a normal build.
    pub(crate) fn note_write(&self, pfn: Pfn) {
        #[cfg(loom)]
        self.watched[pfn.index()].with_mut(|_| ());
        let _ = pfn;
    }

    /// The first byte of a frame. Shape: [`FRAME_SIZE`] bytes from here are the frame's.
    ///
    /// # Panics
    /// When the zone has no such frame.
    pub(crate) fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        assert!(pfn.index() < self.frames, "{pfn} is outside of the arena");
        // SAFETY: INV-ARENA-1: the frame lies inside the mapping, so the offset stays in one allocation and does not overflow.
        unsafe { self.mapping.base().add(pfn.index() * FRAME_SIZE) }
    }

    #[cfg(feature = "memory-failure-injection")]
    pub(crate) fn inject(
        &self,
        pfn: Pfn,
        injection: sys::memory_failure::Injection,
    ) -> Result<(), impl std::fmt::Display> {
        self.mapping.inject(pfn.index() * FRAME_SIZE, injection)
    }

    /// Gives the memory of a pageblock back to the OS. None of its frames may have an owner.
    pub(crate) fn discard(&self, block: BlockIndex) {
        #[cfg(loom)]
        (0..crate::PAGEBLOCK_FRAMES).for_each(|step| self.note_write(block.first().plus(step)));
        // A pageblock under loom is less than a page of the OS: nothing goes back, and zeros are written.
        self.mapping.discard(block.index() * PAGEBLOCK_SIZE, PAGEBLOCK_SIZE);
    }

    /// Gives the memory of neighbouring frames back to the OS, or says that it did not take it. The caller owns them, and nobody else knows them.
    pub(crate) fn decommit(&self, first: Pfn, frames: u32) -> Result<(), MapError> {
        (0..frames).for_each(|step| self.note_write(first.plus(step)));
        if cfg!(loom) {
            // As in `discard`.
            self.mapping.discard(first.index() * FRAME_SIZE, frames as usize * FRAME_SIZE);
            return Ok(());
        }
        self.mapping.decommit(first.index() * FRAME_SIZE, frames as usize * FRAME_SIZE)
    }
}
