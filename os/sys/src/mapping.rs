//! One reserved address range.

#![expect(
    unsafe_code,
    reason = "mmap, madvise and munmap take raw addresses; this file turns them into an owned range"
)]

use std::alloc::Layout;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::memory_failure::{FailedPages, Watch};
use crate::{MapError, OS_HUGE_PAGE};

/// Where the bytes of a [`Mapping`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory with transparent huge pages where the OS allows them. The default for the arena.
    Anonymous,
    /// Private anonymous memory in small pages. The default for tables, which are touched sparsely.
    AnonymousSmall,
    /// A memory file that can be shared with another process.
    Memfd,
    /// The process heap, for Miri and model checkers. Discarding writes zeros and gives nothing back.
    Heap,
}

/// An owned, zero-filled address range, aligned to 2 MiB (heap: to a page).
///
/// # Invariants
/// - INV-MAP-1: `base..base + len` is mapped readable and writable for as long as the value lives, and belongs to it alone.
/// - INV-MAP-2: every byte of it is initialised: zero until somebody writes it, zero again after [`Mapping::discard`].
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
    file: Option<OwnedFd>,
    /// The page size of the system: `madvise` rounds lengths up to it, so nothing less is ever given back.
    page: usize,
    /// Where failures of its memory are noted.
    watch: Option<Watch>,
}

// SAFETY: INV-MAP-1: the range belongs to the value, not to a thread; all shared access goes through raw pointers whose users synchronise.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; `&Mapping` only hands out a raw address and asks the OS for whole pages.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `len` bytes, rounded up to whole pages. Nothing is committed until it is touched.
    ///
    /// # Errors
    /// [`MapError`] when the length is unusable or the OS refuses.
    pub fn reserve(len: usize, backing: Backing) -> Result<Self, MapError> {
        Self::with_page_size(len, backing, crate::page_size())
    }

    /// The same on a system with pages of `page` bytes, which tests choose larger than those of the system they run on.
    pub(crate) fn with_page_size(
        len: usize,
        backing: Backing,
        page: usize,
    ) -> Result<Self, MapError> {
        let len = len
            .checked_next_multiple_of(page)
            .filter(|&l| l > 0 && isize::try_from(l).is_ok())
            .ok_or(MapError::Length { len })?;
        match backing {
            Backing::Heap => Self::on_heap(len, page),
            Backing::Memfd => Self::memfd(len, page),
            Backing::Anonymous | Backing::AnonymousSmall => Self::anonymous(len, backing, page),
        }
    }

    fn on_heap(len: usize, page: usize) -> Result<Self, MapError> {
        let layout = Layout::from_size_align(len, page).map_err(|_| MapError::Length { len })?;
        // SAFETY: the layout has a non-zero size, checked by the caller.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(MapError::Reserve { len, errno: Errno::NOMEM })?;
        Ok(Self { base, len, backing: Backing::Heap, file: None, page, watch: None })
    }

    fn anonymous(len: usize, backing: Backing, page: usize) -> Result<Self, MapError> {
        // One huge page more than asked for, so that an aligned range lies inside; the rest is unmapped again.
        let padded = len.checked_add(OS_HUGE_PAGE).ok_or(MapError::Length { len })?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a null hint lets the OS choose a free range, so no existing mapping is touched.
        let raw = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                padded,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }
        .map_err(|errno| MapError::Reserve { len, errno })?;
        let base = trim_to_alignment(raw.cast(), padded, len);
        let mapping = Self { base, len, backing, file: None, page, watch: None };
        mapping.advise(if backing == Backing::Anonymous {
            Advice::LinuxHugepage
        } else {
            Advice::LinuxNoHugepage
        });
        mapping.keep_private();
        Ok(mapping)
    }

    fn memfd(len: usize, page: usize) -> Result<Self, MapError> {
        let file = rustix::fs::memfd_create("memzip", MemfdFlags::CLOEXEC)
            .map_err(|errno| MapError::MemoryFile { errno })?;
        rustix::fs::ftruncate(&file, len as u64)
            .map_err(|errno| MapError::Reserve { len, errno })?;
        let padded = len.checked_add(OS_HUGE_PAGE).ok_or(MapError::Length { len })?;
        // SAFETY: a null hint lets the OS choose a free range; this first mapping only finds an aligned place.
        let raw = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                padded,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(|errno| MapError::Reserve { len, errno })?;
        let base = trim_to_alignment(raw.cast(), padded, len);
        let flags = MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: `base..base + len` is the range just reserved above and nobody else knows it, so replacing it is ours to do.
        unsafe {
            rustix::mm::mmap(
                base.as_ptr().cast(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                &file,
                0,
            )
        }
        .map_err(|errno| {
            // SAFETY: the reservation is still ours and unused.
            let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), len) };
            MapError::Reserve { len, errno }
        })?;
        let mapping =
            Self { base, len, backing: Backing::Memfd, file: Some(file), page, watch: None };
        mapping.keep_private();
        Ok(mapping)
    }

    /// Notes pages whose memory fails in `failed`, whose page sizes are fractions of the mapping's. The heap is not watched: it is not ours to repair.
    ///
    /// See [`memory_failure`](crate::memory_failure) for what has to be done besides.
    pub fn watch(&mut self, failed: Arc<FailedPages>) {
        let start = self.base.as_ptr().expose_provenance();
        self.watch = None;
        if self.backing != Backing::Heap {
            self.watch = Some(Watch::new(start..start + self.len, self.file.as_ref(), failed));
        }
    }

    /// Cold pages belong in no core dump and in no forked child.
    fn keep_private(&self) {
        self.advise(Advice::LinuxDontDump);
        self.advise(Advice::LinuxDontFork);
    }

    /// Advice is a wish: an OS without the feature refuses it and nothing is lost.
    fn advise(&self, advice: Advice) {
        // SAFETY: INV-MAP-1: the whole range is ours; none of the advices used here changes what it contains.
        let _ = unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice) };
    }

    /// The first address of the range.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Units: bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true; a mapping of nothing cannot be made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the bytes come from.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// What is given back is whole pages of so many bytes.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.page
    }

    /// Gives the memory of a range back to the OS, or writes zeros where that is not possible; it reads as zeros afterwards.
    ///
    /// The caller must be the only one who uses these bytes.
    ///
    /// # Panics
    /// When the range is not inside the mapping.
    pub fn discard(&self, offset: usize, len: usize) {
        if self.decommit(offset, len).is_err() {
            // SAFETY: INV-MAP-1: `decommit` has checked that the range is inside the mapping; the caller is its only user.
            unsafe { std::ptr::write_bytes(self.base.as_ptr().add(offset), 0, len) };
        }
    }

    /// As [`Mapping::discard`], but says when the OS did not take the memory. Each byte is then as it was, or zero.
    ///
    /// # Errors
    /// [`MapError::PartialPage`] when the range is not whole pages of the system: a neighbour's bytes would go with it. [`MapError::Decommit`] when the OS
    /// refuses. The heap always does: it is the allocator's, not ours to give.
    ///
    /// # Panics
    /// When the range is not inside the mapping; in debug builds also when the calling thread holds a
    /// lock under which the OS is not called ([`sync::order::assert_may_call_os`]).
    #[track_caller]
    pub fn decommit(&self, offset: usize, len: usize) -> Result<(), MapError> {
        sync::order::assert_may_call_os();
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "a discard stays inside its mapping"
        );
        if !offset.is_multiple_of(self.page) || !len.is_multiple_of(self.page) {
            return Err(MapError::PartialPage { offset, len, page: self.page });
        }
        if len == 0 {
            return Ok(());
        }
        // SAFETY: INV-MAP-1 and the assertion above: the address lies inside the range.
        let start = unsafe { self.base.as_ptr().add(offset) };
        let decommitted = match (self.backing, &self.file) {
            (Backing::Memfd, Some(file)) => rustix::fs::fallocate(
                file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                offset as u64,
                len as u64,
            ),
            (Backing::Heap, _) => Err(Errno::NOSYS),
            // SAFETY: INV-MAP-1: whole pages of our own range; INV-MAP-2 holds after it, since private anonymous pages come back zero-filled.
            _ => unsafe { rustix::mm::madvise(start.cast(), len, Advice::LinuxDontNeed) },
        };
        decommitted.map_err(|errno| MapError::Decommit { len, errno })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A late notice finds no mapping any more (INV-WATCH-1).
        self.watch = None;
        if self.backing == Backing::Heap {
            let layout = Layout::from_size_align(self.len, self.page)
                .expect("the same layout was valid when the range was made");
            // SAFETY: the range came from `alloc_zeroed` with this very layout.
            unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
        } else {
            // SAFETY: INV-MAP-1: the range is ours, and the value that lends it out is going away.
            let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        }
    }
}

/// Cuts a padded reservation down to `len` bytes aligned to a huge page; the ends are unmapped.
fn trim_to_alignment(raw: *mut u8, padded: usize, len: usize) -> NonNull<u8> {
    let head = raw.align_offset(OS_HUGE_PAGE);
    let tail = padded - head - len;
    // SAFETY: `raw..raw + padded` was just reserved; `head` is below OS_HUGE_PAGE, so both cuts lie inside it and nobody uses them.
    unsafe {
        if head > 0 {
            let _ = rustix::mm::munmap(raw.cast(), head);
        }
        if tail > 0 {
            let _ = rustix::mm::munmap(raw.add(head + len).cast(), tail);
        }
        NonNull::new(raw.add(head)).expect("the OS maps nothing at address 0 unless asked to")
    }
}
