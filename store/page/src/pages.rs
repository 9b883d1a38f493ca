//! Storing and loading of pages.

use std::sync::Arc;

use frames::Reservation;
use zcomp::{PAGE_SIZE, Page};
use zsmalloc::{AccessError, AllocError, Handle, Pool};

use crate::streams::StreamSlot;
use crate::{EntryKind, LoadError, SlotEntry, StoreError, Streams, fill};

/// A store of pages: a pool of objects and the streams that make them.
///
/// It keeps no index: the caller keeps the [`SlotEntry`] of each page.
///
/// Locking: all methods may be called from many threads at once. A call holds one stream while it
/// works on one page.
#[derive(Debug)]
pub struct Pages {
    pool: Arc<Pool>,
    streams: Streams,
    max_blob_len: usize,
}

impl Pages {
    /// Creates a store of pages in `pool`.
    #[must_use]
    pub fn new(pool: Arc<Pool>, streams: Streams) -> Self {
        let max_blob_len = pool.largest_with_header();
        Self { pool, streams, max_blob_len }
    }

    /// Returns the pool underneath, for compaction, statistics and checks.
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

    /// Stores a page that is about to replace `old`. While the codec works, it prefetches what
    /// the caller's freeing of `old` will touch; `old` is only a hint.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn store_replacing(&self, page: &Page, old: SlotEntry) -> Result<SlotEntry, StoreError> {
        self.store_with(page, old, |bytes| self.pool.store(bytes))
    }

    /// Stores a page and takes the reserved frame if the page needs a frame. No limit can refuse
    /// the page unless the memory of the reserved frame has failed.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then. The reservation is still there, unless the memory
    /// of its frame failed; then a limit can refuse the page as well.
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
        // A repeated pattern needs no codec.
        if let Some(pattern) = fill::page_same_filled(page) {
            return Ok(SlotEntry::new(match fill::narrow_pattern(pattern) {
                Some(half) => EntryKind::Same(half),
                None => EntryKind::Pattern(put(&pattern)?),
            }));
        }
        let mut slot = self.streams.acquire();
        let blob = slot.stream.compress(page)?;
        // The handle's cache line has arrived by now; it says where the zspage is.
        if let Some(handle) = old {
            self.pool.prefetch_zspage(handle);
        }
        Ok(SlotEntry::new(if blob.len() > self.max_blob_len {
            EntryKind::Raw(put(page)?)
        } else {
            EntryKind::Compressed(put(blob)?)
        }))
    }

    /// Reads a page into `page`. An object that is contiguous is decoded straight from its frame.
    ///
    /// # Errors
    /// [`LoadError::Stale`] when the page was freed since the caller looked its entry up,
    /// [`LoadError::TooManyReaders`] when it cannot be reached now. All others mean that this
    /// page is lost. `page` is unspecified then.
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
        // Before the codec's verdict: it may take the bytes of failed memory for a page.
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

    /// Frees the object of the entry, if it has one.
    ///
    /// # Errors
    /// [`AccessError`] when the object was freed before or the pool is poisoned; nothing has
    /// changed then.
    pub fn free(&self, stored: SlotEntry) -> Result<(), AccessError> {
        stored.handle().map_or(Ok(()), |handle| self.pool.free(handle).map(drop))
    }

    /// Returns the payload bytes of the entry's object: its part of the kernel's
    /// `compr_data_size`.
    ///
    /// # Errors
    /// [`AccessError`] when the object was freed.
    pub fn stored_len(&self, stored: SlotEntry) -> Result<usize, AccessError> {
        stored.handle().map_or(Ok(0), |handle| self.pool.len(handle))
    }
}

const _: () = assert!(PAGE_SIZE <= zsmalloc::MAX_OBJECT || cfg!(loom));
