//! The bytes of the frames: one reserved address range.

#![expect(unsafe_code, reason = "frame numbers become addresses here and nowhere else")]

use std::ptr::NonNull;
use std::sync::Arc;

use sys::memory_failure::{FailedPages, WatchedMapping};
use sys::{Backing, MapError, Mapping};

use crate::geometry::{FRAME_SIZE, PAGEBLOCK_SIZE};
use crate::units::{BlockIndex, Pfn};

/// All frames of a zone. Memory is committed on first touch. The zone decides which frame has which
/// owner, and the lock of the chain decides which thread may touch its bytes.
///
/// # Invariants
/// - INV-ARENA-1: the mapping holds `frames * FRAME_SIZE` bytes, so every frame below `frames` lies
///   entirely inside it.
#[derive(Debug)]
pub(crate) struct Arena {
    mapping: WatchedMapping,
    frames: usize,
    /// Stand for the bytes of the frames: loom cannot see accesses through raw addresses.
    #[cfg(loom)]
    watched: Box<[loom::cell::UnsafeCell<()>]>,
}

#[cfg(loom)]
// SAFETY: the watched cells hold nothing; loom itself reports accesses that are not ordered.
unsafe impl Sync for Arena {}

impl Arena {
    /// Reserves the addresses of `frames` frames. Memory failures in them are noted in `failed`.
    ///
    /// # Errors
    /// [`MapError`] when the OS refuses the range or the backing.
    pub(crate) fn reserve(
        frames: usize,
        backing: Backing,
        failed: Arc<FailedPages>,
    ) -> Result<Self, MapError> {
        let len = frames.checked_mul(FRAME_SIZE).ok_or(MapError::Length { len: frames })?;
        Ok(Self {
            mapping: WatchedMapping::new(Mapping::reserve(len, backing)?, failed),
            frames,
            #[cfg(loom)]
            watched: (0..frames).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        })
    }

    /// Tells loom that the bytes of the frame are about to be read. Does nothing in a normal build.
    pub(crate) fn note_read(&self, pfn: Pfn) {
        #[cfg(loom)]
        self.watched[pfn.index()].with(|_| ());
        let _ = pfn;
    }

    /// Tells loom that the bytes of the frame are about to be written.
    pub(crate) fn note_write(&self, pfn: Pfn) {
        #[cfg(loom)]
        self.watched[pfn.index()].with_mut(|_| ());
        let _ = pfn;
    }

    /// Returns the address of the first byte of a frame, which is [`FRAME_SIZE`] bytes long.
    ///
    /// # Panics
    /// When the zone has no such frame.
    pub(crate) fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        assert!(pfn.index() < self.frames, "{pfn} is outside of the arena");
        // SAFETY: INV-ARENA-1: the frame lies inside the mapping, so the offset stays in one
        // allocation and does not overflow.
        unsafe { self.mapping.base().add(pfn.index() * FRAME_SIZE) }
    }

    /// Simulates a memory failure in a frame, for tests.
    #[cfg(feature = "memory-failure-injection")]
    pub(crate) fn inject(
        &self,
        pfn: Pfn,
        injection: sys::memory_failure::Injection,
    ) -> Result<(), impl std::fmt::Display> {
        self.mapping.inject(pfn.index() * FRAME_SIZE, injection)
    }

    /// Decommits the memory of a pageblock. None of its frames may have an owner.
    pub(crate) fn discard(&self, block: BlockIndex) {
        #[cfg(loom)]
        (0..crate::PAGEBLOCK_FRAMES).for_each(|step| self.note_write(block.first().plus(step)));
        // Under loom it is smaller than a page of the OS: the bytes are zeroed instead.
        self.mapping.discard(block.index() * PAGEBLOCK_SIZE, PAGEBLOCK_SIZE);
    }

    /// Decommits adjacent frames. The caller must own them, and no other thread may refer to them.
    ///
    /// # Errors
    /// [`MapError`] when the OS refused.
    pub(crate) fn decommit(&self, first: Pfn, frames: u32) -> Result<(), MapError> {
        (0..frames).for_each(|step| self.note_write(first.plus(step)));
        let (offset, len) = (first.index() * FRAME_SIZE, frames as usize * FRAME_SIZE);
        if cfg!(loom) {
            // As in `discard`.
            self.mapping.discard(offset, len);
            return Ok(());
        }
        self.mapping.decommit(offset, len)
    }
}
