//! A reserved address range and its memory, and the errors of memory functions.

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
use thiserror::Error;

/// The huge page size that the OS uses. Units: bytes.
const OS_HUGE_PAGE: usize = 2 << 20;

/// The source of a [`Mapping`]'s memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory with transparent huge pages where the OS allows them.
    Anonymous,
    /// Private anonymous memory in small pages, for tables, which are touched sparsely.
    AnonymousSmall,
    /// A memory file that can be shared with another process.
    Memfd,
    /// The process heap, for Miri and model checkers. Discarding writes zeros.
    Heap,
}

/// Why a memory function failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// The OS refused an address range: it exceeds the address space or a limit on it.
    #[error("cannot reserve {len} bytes of address space: {errno}")]
    Reserve {
        /// Requested bytes.
        len: usize,
        /// The error of the OS.
        errno: Errno,
    },
    /// The OS refused to create the memory file.
    #[error("cannot create a memory file: {errno}")]
    MemoryFile {
        /// The error of the OS.
        errno: Errno,
    },
    /// The OS refused to take memory back; the range stays usable.
    #[error("cannot decommit {len} bytes: {errno}")]
    Decommit {
        /// Bytes to decommit.
        len: usize,
        /// The error of the OS.
        errno: Errno,
    },
    /// The range to decommit is not whole system pages; it is unchanged.
    #[error("cannot decommit {len} bytes at offset {offset}: not whole pages of {page} bytes")]
    PartialPage {
        /// The start of the range in the mapping. Units: bytes.
        offset: usize,
        /// Bytes to decommit.
        len: usize,
        /// The page size of the system. Units: bytes.
        page: usize,
    },
    /// The length is zero, or larger than the address space.
    #[error("{len} is not a valid length for a mapping: zero, or larger than the address space")]
    Length {
        /// The requested length, in the units of the failed call: bytes, words or frames.
        len: usize,
    },
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
    /// The page size of the system: `madvise` rounds lengths up to it.
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
        Self::with_pages(len, backing, crate::page_size())
    }

    /// Reserves on a system with pages of `page` bytes. Tests choose larger pages than it has.
    pub(crate) fn with_pages(len: usize, backing: Backing, page: usize) -> Result<Self, MapError> {
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
        let base = reserve_aligned(len, ProtFlags::READ | ProtFlags::WRITE)?;
        // From here on, dropping `mapping` unmaps the range.
        let mapping = Self { base, len, backing, file: None, page };
        let is_huge = backing == Backing::Anonymous;
        mapping.advise(if is_huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage });
        mapping.keep_private();
        Ok(mapping)
    }

    fn memfd(len: usize, page: usize) -> Result<Self, MapError> {
        let file = rustix::fs::memfd_create("memzip", MemfdFlags::CLOEXEC)
            .map_err(|errno| MapError::MemoryFile { errno })?;
        rustix::fs::ftruncate(&file, len as u64)
            .map_err(|errno| MapError::Reserve { len, errno })?;
        let base = reserve_aligned(len, ProtFlags::empty())?;
        // From here on, dropping `mapping` unmaps the range, also if the next step fails.
        let mut mapping = Self { base, len, backing: Backing::Memfd, file: None, page };
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
        .map_err(|errno| MapError::Reserve { len, errno })?;
        mapping.file = Some(file);
        mapping.keep_private();
        Ok(mapping)
    }

    /// Keeps the memory out of core dumps and forked children.
    fn keep_private(&self) {
        self.advise(Advice::LinuxDontDump);
        self.advise(Advice::LinuxDontFork);
    }

    /// Advises the OS about the whole range. A refusal is harmless.
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
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    /// Returns the memory file, if the backing is one.
    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref()
    }

    /// Returns the unit of decommits. Units: bytes.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn page_size(&self) -> usize {
        self.page
    }

    /// Decommits a range, or writes zeros where that is not possible. The range reads as zeros
    /// afterwards. The caller is the only user of these bytes.
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
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(is_inside, "{len} bytes from offset {offset} on are outside the mapping");
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

/// Reserves `len` bytes, aligned to a huge page: reserves one huge page more and unmaps both ends.
fn reserve_aligned(len: usize, protection: ProtFlags) -> Result<NonNull<u8>, MapError> {
    let padded = len.checked_add(OS_HUGE_PAGE).ok_or(MapError::Length { len })?;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a null hint lets the OS choose a free range, so no existing mapping is touched.
    let raw =
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), padded, protection, flags) };
    let raw = raw.map_err(|errno| MapError::Reserve { len, errno })?.cast::<u8>();
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
        let base = NonNull::new(raw.add(head));
        Ok(base.expect("the OS maps nothing at address 0 unless asked to"))
    }
}
