//! A reserved address range and its memory.

#![expect(
    unsafe_code,
    reason = "mmap, madvise and munmap take raw addresses; this file turns them into an owned range"
)]

use std::alloc::Layout;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::{MapError, OS_HUGE_PAGE};

/// The source of a [`Mapping`]'s memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory with transparent huge pages where the OS allows them. The default
    /// for the arena.
    Anonymous,
    /// Private anonymous memory in small pages. Used for tables, which are touched sparsely.
    AnonymousSmall,
    /// A memory file that can be shared with another process.
    Memfd,
    /// The process heap, for Miri and model checkers. Discarding writes zeros and decommits
    /// nothing.
    Heap,
}

/// An owned, zero-filled address range, aligned to 2 MiB (heap: to a page).
///
/// # Invariants
/// - INV-MAP-1: `base..base + len` is mapped readable and writable as long as the value lives, and
///   belongs to it alone.
/// - INV-MAP-2: every byte of it is initialised: zero until it is written, and zero again after
///   [`Mapping::discard`].
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
    file: Option<OwnedFd>,
    /// The page size of the system: `madvise` rounds lengths up to it, so only whole pages are
    /// decommitted.
    page: usize,
}

// SAFETY: INV-MAP-1: the range belongs to the value, not to a thread. All shared access goes
// through raw pointers whose users synchronise.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; `&Mapping` only returns a raw address and makes system calls on whole pages.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `len` bytes, rounded up to whole pages. Nothing is committed until it is touched.
    ///
    /// # Errors
    /// [`MapError`] when the length is zero or too large, or the OS refuses.
    pub fn reserve(len: usize, backing: Backing) -> Result<Self, MapError> {
        Self::with_page_size(len, backing, crate::page_size())
    }

    /// Reserves as [`Mapping::reserve`] does, on a system with pages of `page` bytes. Tests choose
    /// larger pages than those of the system they run on.
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
        // SAFETY: the layout has a non-zero size, which the caller checked.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(MapError::Reserve { len, errno: Errno::NOMEM })?;
        Ok(Self { base, len, backing: Backing::Heap, file: None, page })
    }

    fn anonymous(len: usize, backing: Backing, page: usize) -> Result<Self, MapError> {
        // One huge page more than asked for, so that an aligned range fits; the rest is unmapped
        // again.
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
        // From here on, dropping `mapping` unmaps the range.
        let mapping = Self { base, len, backing, file: None, page };
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
        // SAFETY: a null hint lets the OS choose a free range, so no existing mapping is touched.
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
        // The reservation only finds an aligned address; the file replaces it.
        // SAFETY: `base..base + len` is the range just reserved above. No other code has its
        // address, so it may be replaced.
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
        let mapping = Self { base, len, backing: Backing::Memfd, file: Some(file), page };
        mapping.keep_private();
        Ok(mapping)
    }

    /// Keeps the memory out of core dumps and forked children.
    fn keep_private(&self) {
        self.advise(Advice::LinuxDontDump);
        self.advise(Advice::LinuxDontFork);
    }

    /// Advises the OS about the whole range. An OS without the feature refuses, which is harmless.
    fn advise(&self, advice: Advice) {
        // SAFETY: INV-MAP-1: the whole range is ours, and none of the advice used here changes its
        // content.
        let _ = unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice) };
    }

    /// Returns the first address of the range.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the length. Units: bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the length is zero. It never is: [`Mapping::reserve`] refuses that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the source of the memory.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Returns the memory file, if the backing is one.
    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref()
    }

    /// Returns the unit of decommits. Units: bytes.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.page
    }

    /// Decommits a range, or writes zeros where that is not possible. The range reads as zeros
    /// afterwards.
    ///
    /// The caller is the only user of these bytes.
    ///
    /// # Panics
    /// When the range is outside the mapping.
    pub fn discard(&self, offset: usize, len: usize) {
        if self.decommit(offset, len).is_err() {
            // SAFETY: INV-MAP-1: `decommit` has checked that the range is inside the mapping, and
            // the caller is its only user.
            unsafe { std::ptr::write_bytes(self.base.as_ptr().add(offset), 0, len) };
        }
    }

    /// Returns the memory of a range to the OS. The range reads as zeros afterwards. On an error
    /// each byte keeps its value or becomes zero.
    ///
    /// # Errors
    /// [`MapError::PartialPage`] when the range is not whole system pages, since neighbouring bytes
    /// would be lost. [`MapError::Decommit`] when the OS refuses. A heap backing always fails,
    /// since its memory belongs to the allocator.
    ///
    /// # Panics
    /// When the range is outside the mapping; in debug builds also when the calling thread holds a
    /// lock under which no system call is allowed ([`sync::order::assert_may_call_os`]).
    #[track_caller]
    pub fn decommit(&self, offset: usize, len: usize) -> Result<(), MapError> {
        sync::order::assert_may_call_os();
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "{len} bytes from offset {offset} on are outside the mapping of {} bytes",
            self.len
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
            // SAFETY: INV-MAP-1: whole pages of our own range. INV-MAP-2 holds after it, since
            // private anonymous pages come back zero-filled.
            _ => unsafe { rustix::mm::madvise(start.cast(), len, Advice::LinuxDontNeed) },
        };
        decommitted.map_err(|errno| MapError::Decommit { len, errno })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.backing == Backing::Heap {
            let layout = Layout::from_size_align(self.len, self.page)
                .expect("the layout was valid when the range was allocated");
            // SAFETY: the range came from `alloc_zeroed` with this very layout.
            unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
        } else {
            // SAFETY: INV-MAP-1: the range is ours, and the value that owns it ends here.
            let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        }
    }
}

/// Unmaps both ends of a padded reservation and returns the `len` bytes in between, aligned to a
/// huge page.
fn trim_to_alignment(raw: *mut u8, padded: usize, len: usize) -> NonNull<u8> {
    let head = raw.align_offset(OS_HUGE_PAGE);
    let tail = padded - head - len;
    // SAFETY: `raw..raw + padded` was just reserved. `head` is below OS_HUGE_PAGE, so both cuts lie
    // inside it, and no other code uses them.
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
