//! Storing a page and reading it back.

use std::sync::Arc;

use frames::Reservation;
use zcomp::{PAGE_SIZE, Page};
use zsmalloc::{AccessError, AllocError, Handle, Pool};

use crate::streams::StreamSlot;
use crate::{EntryKind, LoadError, SlotEntry, StoreError, Streams, fill};

/// A pool of pages: a pool of objects and the streams to make them with.
///
/// It keeps no index: a page is named by the [`SlotEntry`] word it was stored as, which the caller keeps.
///
/// Locking: all calls may come from many threads at once. A call holds one stream while it works on one page.
#[derive(Debug)]
pub struct Pages {
    pool: Arc<Pool>,
    streams: Streams,
    max_blob_len: usize,
}

impl Pages {
    /// Pages stored in `pool`.
    #[must_use]
    pub fn new(pool: Arc<Pool>, streams: Streams) -> Self {
        let max_blob_len = pool.largest_with_header();
        Self { pool, streams, max_blob_len }
    }

    /// The pool underneath, for compaction, statistics and checks.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Stores a page in the cheapest form.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn store(&self, page: &Page) -> Result<SlotEntry, StoreError> {
        self.store_replacing(page, SlotEntry::EMPTY)
    }

    /// Stores a page that is going to take the place of `old`: what freeing that will touch is loaded while the codec works. `old` is only a hint.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn store_replacing(&self, page: &Page, old: SlotEntry) -> Result<SlotEntry, StoreError> {
        self.store_with(page, old, |bytes| self.pool.store(bytes))
    }

    /// Stores a page with a frame that was reserved, where it needs one. No limit can refuse it
    /// while the memory of that frame is sound.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then, and the reservation is not spent, unless the memory it
    /// stood for failed. Then a limit can refuse the page as well.
    pub fn store_reserved(
        &self,
        page: &Page,
        reservation: &mut Reservation<'_>,
    ) -> Result<SlotEntry, StoreError> {
        self.store_with(page, SlotEntry::EMPTY, |bytes| {
            self.pool.store_reserved(bytes, reservation)
        })
    }

    fn store_with(
        &self,
        page: &Page,
        old: SlotEntry,
        put: impl FnOnce(&[u8]) -> Result<Handle, AllocError>,
    ) -> Result<SlotEntry, StoreError> {
        let old = old.handle();
        if let Some(handle) = old {
            self.pool.prefetch(handle);
        }
        if let Some(pattern) = fill::page_same_filled(page) {
            return Ok(SlotEntry::new(match fill::narrow_pattern(pattern) {
                Some(half) => EntryKind::Same(half),
                None => EntryKind::Pattern(put(&pattern)?),
            }));
        }
        let mut slot = self.streams.acquire();
        let blob = slot.stream.compress(page)?;
        if let Some(handle) = old {
            self.pool.prefetch_zspage(handle);
        }
        Ok(SlotEntry::new(if blob.len() > self.max_blob_len {
            EntryKind::Raw(put(page)?)
        } else {
            EntryKind::Compressed(put(blob)?)
        }))
    }

    /// Reads a page back, straight from the pool's frames where its object lies in one piece.
    ///
    /// # Errors
    /// [`LoadError::Stale`] when the page was freed since its word was looked up, [`LoadError::TooManyReaders`] when it cannot be reached just now. All
    /// others mean that this page is lost; `page` is undefined then.
    pub fn load(&self, stored: SlotEntry, page: &mut Page) -> Result<(), LoadError> {
        match stored.kind() {
            EntryKind::Empty | EntryKind::Reserved => page.fill(0),
            EntryKind::Same(half) => fill::fill_page(page, fill::widen_pattern(half)),
            EntryKind::Pattern(handle) => fill::fill_page(page, self.pattern(handle)?),
            EntryKind::Raw(handle) => self.copy(handle, page)?,
            EntryKind::Compressed(handle) => return self.decompress(handle, page),
            EntryKind::Hot(_) => return Err(LoadError::NotInPool),
            EntryKind::Invalid => return Err(LoadError::InvalidEntry),
        }
        Ok(())
    }

    fn decompress(&self, handle: Handle, page: &mut Page) -> Result<(), LoadError> {
        let mut slot = self.streams.acquire();
        let StreamSlot { stream, bounce } = &mut *slot;
        let object = self.pool.read(handle)?;
        let done = stream.decompress(object.contiguous(bounce), page);
        // First: what failed memory read as is no page, whether the codec noticed or not.
        object.intact()?;
        Ok(done?)
    }

    /// Copies an object that has exactly the length of `bytes`.
    fn copy(&self, handle: Handle, bytes: &mut [u8]) -> Result<(), LoadError> {
        let object = self.pool.read(handle)?;
        let (head, tail) = object.pieces();
        if head.len() + tail.len() != bytes.len() {
            return Err(LoadError::Length { len: object.len() });
        }
        let (front, back) = bytes.split_at_mut(head.len());
        front.copy_from_slice(head);
        back.copy_from_slice(tail);
        Ok(object.intact()?)
    }

    fn pattern(&self, handle: Handle) -> Result<[u8; 8], LoadError> {
        let mut pattern = [0; 8];
        self.copy(handle, &mut pattern)?;
        Ok(pattern)
    }

    /// Frees what is stored behind the word; words without an object cost nothing to free.
    ///
    /// # Errors
    /// [`AccessError`] when it was freed before or the pool is out of order; nothing has changed then.
    pub fn free(&self, stored: SlotEntry) -> Result<(), AccessError> {
        stored.handle().map_or(Ok(()), |handle| self.pool.free(handle).map(drop))
    }

    /// Payload bytes stored behind the word: the part of the kernel's `compr_data_size` this page makes.
    ///
    /// # Errors
    /// [`AccessError`] when the object was freed.
    pub fn stored_len(&self, stored: SlotEntry) -> Result<usize, AccessError> {
        stored.handle().map_or(Ok(0), |handle| self.pool.len(handle))
    }
}

const _: () = assert!(PAGE_SIZE <= zsmalloc::MAX_OBJECT || cfg!(loom));
