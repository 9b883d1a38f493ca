//! Storing and loading of pages, and the forms in which they are stored.

use std::sync::Arc;

use thiserror::Error;
use zcomp::{CodecError, PAGE_SIZE, Page};
use zsmalloc::{AccessError, AllocError, Handle, Pool};

use crate::fill;
use crate::streams::{StreamSlot, Streams};

/// A stored page: its content or the object that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredPage {
    /// The page repeats this pattern 1024 times.
    Same(u32),
    /// An 8-byte object holds a pattern that the page repeats 512 times.
    Pattern(Handle),
    /// The object holds the codec's blob.
    Compressed(Handle),
    /// The object holds the page.
    Raw(Handle),
}

impl StoredPage {
    /// Returns the handle of the page's object, if it has one.
    #[must_use]
    pub fn handle(self) -> Option<Handle> {
        match self {
            Self::Same(_) => None,
            Self::Pattern(handle) | Self::Compressed(handle) | Self::Raw(handle) => Some(handle),
        }
    }
}

/// Why a page was not stored. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The codec failed to compress the page.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The pool could not allocate the object.
    #[error(transparent)]
    Alloc(#[from] AllocError),
}

/// Why a page was not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The object cannot be read. [`AccessError::Stale`] means that the page was overwritten or
    /// discarded since the caller looked it up: look it up again.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The codec failed to decompress the object.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The object does not have the length that its form requires.
    #[error("an object of {len} bytes does not have the length that its slot entry requires")]
    Length {
        /// The length of the object in bytes.
        len: usize,
    },
}

/// A store of pages: a pool of objects and the streams that make them. The caller keeps the
/// [`StoredPage`] of each page.
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

    /// Stores a page in the cheapest form. While the codec works, it prefetches what the caller's
    /// freeing of `old`, the object of the page that this one is about to replace, will touch.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn store(&self, page: &Page, old: Option<Handle>) -> Result<StoredPage, StoreError> {
        self.store_with(page, old, |bytes| self.pool.store(bytes))
    }

    /// Stores like [`Pages::store`], but `put` stores the object in the pool.
    ///
    /// # Errors
    /// As [`Pages::store`].
    pub fn store_with(
        &self,
        page: &Page,
        old: Option<Handle>,
        put: impl FnOnce(&[u8]) -> Result<Handle, AllocError>,
    ) -> Result<StoredPage, StoreError> {
        if let Some(handle) = old {
            self.pool.prefetch(handle);
        }
        // A repeated pattern needs no codec.
        if let Some(pattern) = fill::page_same_filled(page) {
            return Ok(match fill::narrow_pattern(pattern) {
                Some(half) => StoredPage::Same(half),
                None => StoredPage::Pattern(put(&pattern)?),
            });
        }
        let mut slot = self.streams.acquire();
        let blob = slot.stream.compress(page)?;
        // The handle's cache line has arrived by now; it says where the zspage is.
        if let Some(handle) = old {
            self.pool.prefetch_zspage(handle);
        }
        Ok(if blob.len() > self.max_blob_len {
            StoredPage::Raw(put(page)?)
        } else {
            StoredPage::Compressed(put(blob)?)
        })
    }

    /// Reads a page into `page`. An object that is contiguous is decoded straight from its frame.
    ///
    /// # Errors
    /// [`AccessError::Stale`] when the page was freed since the caller looked it up,
    /// [`AccessError::TooManyReaders`] when it cannot be reached now. All others mean that this
    /// page is lost. `page` is unspecified then.
    pub fn load(&self, stored: StoredPage, page: &mut Page) -> Result<(), LoadError> {
        match stored {
            StoredPage::Same(half) => fill::fill_page(page, fill::widen_pattern(half)),
            StoredPage::Pattern(handle) => {
                let mut pattern = [0; 8];
                self.copy(handle, &mut pattern)?;
                fill::fill_page(page, pattern);
            }
            StoredPage::Raw(handle) => self.copy(handle, page)?,
            StoredPage::Compressed(handle) => return self.decompress(handle, page),
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

    /// Frees the page's object, if it has one.
    ///
    /// # Errors
    /// [`AccessError`] when the object was freed before or the pool is poisoned; nothing has
    /// changed then.
    pub fn free(&self, stored: StoredPage) -> Result<(), AccessError> {
        stored.handle().map_or(Ok(()), |handle| self.pool.free(handle).map(drop))
    }

    /// Returns the payload bytes of the page's object: its part of `compr_data_size`.
    ///
    /// # Errors
    /// [`AccessError`] when the object was freed.
    pub fn stored_len(&self, stored: StoredPage) -> Result<usize, AccessError> {
        stored.handle().map_or(Ok(0), |handle| self.pool.len(handle))
    }
}

const _: () = assert!(PAGE_SIZE <= zsmalloc::MAX_OBJECT || cfg!(loom));
