//! The mappings a failure can be handled in, as a signal handler finds them.

#![expect(
    unsafe_code,
    reason = "a signal handler reaches the records of a mapping through raw pointers"
)]

use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
// Not the modelled atomics: a signal handler is no thread that a model checker knows.
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex};

use rustix::fs::FallocateFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{FailedPages, Notice};

/// No file.
const NONE: RawFd = -1;

/// One mapping, or a vacant place for one. A node that was once linked is never unlinked or freed: it
/// is used again. There are as many as there ever were mappings and handlers at one time.
///
/// # Invariants
/// - INV-WATCH-1: from the moment `start` is not 0 until it is 0 again *and* no handler is inside (`inside` is 0), `start..end` is a mapping of ours,
///   `failed` points at its live record, and `file` is its open file or [`NONE`].
/// - INV-WATCH-2: the chain from [`HEAD`] only grows, and its nodes live for ever.
struct Node {
    start: AtomicUsize,
    end: AtomicUsize,
    failed: AtomicPtr<FailedPages>,
    file: AtomicI32,
    /// Handlers that look at this node.
    inside: AtomicUsize,
    next: *const Node,
}

// SAFETY: `next` never changes after the node is linked (INV-WATCH-2); everything else is atomic.
unsafe impl Sync for Node {}

static HEAD: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());
/// Held while a mapping is added.
static ADDING: Mutex<()> = Mutex::new(());

/// A mapping whose failures are noted. Dropping it ends that; the mapping is still there then.
#[derive(Debug)]
pub(crate) struct Watch {
    node: &'static Node,
    /// What the node points at.
    _failed: Arc<FailedPages>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("start", &self.start)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Notes failures in `range` from here on, if [`catch_memory_failures`](super::catch_memory_failures) was called or will be.
    ///
    /// The caller owns the range and the file, and drops this value before either.
    pub(crate) fn new(
        range: Range<usize>,
        file: Option<&OwnedFd>,
        failed: Arc<FailedPages>,
    ) -> Self {
        let _adding = ADDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let node = nodes().find(|node| node.is_vacant()).unwrap_or_else(link);
        node.end.store(range.end, Relaxed);
        node.file.store(file.map_or(NONE, AsRawFd::as_raw_fd), Relaxed);
        node.failed.store(Arc::as_ptr(&failed).cast_mut(), Relaxed);
        // SeqCst pairs with the load in `handle`: a handler that finds the start finds the rest.
        node.start.store(range.start, SeqCst);
        Self { node, _failed: failed }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SeqCst, here and in `handle`: either the handler finds no mapping, or we find the handler.
        self.node.start.store(0, SeqCst);
        // A notice for a mapping that nobody uses any more is rare, and its handler makes one system call.
        let mut spins = 0;
        while self.node.inside.load(SeqCst) > 0 {
            sync::relax(spins);
            spins += 1;
        }
    }
}

/// Adds a vacant node. [`ADDING`] is held.
fn link() -> &'static Node {
    let node = Box::leak(Box::new(Node {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        failed: AtomicPtr::new(ptr::null_mut()),
        file: AtomicI32::new(NONE),
        inside: AtomicUsize::new(0),
        next: HEAD.load(Relaxed),
    }));
    // Release pairs with the Acquire in `nodes`.
    HEAD.store(ptr::from_mut(node), Release);
    node
}

fn nodes() -> impl Iterator<Item = &'static Node> {
    let as_ref = |node: *const Node| {
        // SAFETY: INV-WATCH-2: a pointer of the chain is null or points at a node that lives for ever.
        unsafe { node.as_ref() }
    };
    std::iter::successors(as_ref(HEAD.load(Acquire)), move |node| as_ref(node.next))
}

/// Notes a failure, if the address lies in a watched mapping, and repairs the mapping where a thread waits for that. Returns whether it is dealt
/// with. Called by the signal handler: no lock, nothing from the heap.
pub(super) fn handle(address: usize, len: usize, notice: Notice) -> bool {
    nodes().any(|node| {
        // SeqCst: see `Watch::drop`.
        node.inside.fetch_add(1, SeqCst);
        let handled = node.handle(address, len, notice);
        node.inside.fetch_sub(1, SeqCst);
        handled
    })
}

impl Node {
    /// Returns whether a mapping may be entered: there is none, and no handler is inside.
    ///
    /// SeqCst, in this order: a handler counts itself as inside before it reads the start. So one that
    /// read the start of the last mapping is counted before that start became 0, and is seen here
    /// until it leaves. One that comes later reads 0, or the start of the next mapping, which is stored
    /// after all that belongs to it (INV-WATCH-1).
    fn is_vacant(&self) -> bool {
        self.start.load(SeqCst) == 0 && self.inside.load(SeqCst) == 0
    }

    fn handle(&self, address: usize, len: usize, notice: Notice) -> bool {
        let start = self.start.load(SeqCst);
        let range = start..self.end.load(Relaxed);
        if start == 0 || !range.contains(&address) {
            return false;
        }
        // At least what the OS maps at once, and nothing outside of the mapping.
        let len = len.max(crate::page_size());
        let first = (address & !(len - 1)).max(range.start);
        let len = (address & !(len - 1)).saturating_add(len).min(range.end) - first;
        // SAFETY: INV-WATCH-1: the start was not 0 after we counted ourselves as inside, so the record lives until we leave.
        let failed = unsafe { &*self.failed.load(Relaxed) };
        // Before the fresh page comes: see the order in FailedPages.
        failed.note_bytes(first - range.start, len);
        notice == Notice::ActionOptional || self.repair(range.start, first, len)
    }

    /// Puts fresh pages in the place of failed ones: zeros.
    fn repair(&self, start: usize, first: usize, len: usize) -> bool {
        let address = ptr::with_exposed_provenance_mut(first);
        let punched = match self.file.load(Relaxed) {
            NONE => Ok(()),
            file => {
                // SAFETY: INV-WATCH-1: the file is open as long as we are inside.
                let file = unsafe { BorrowedFd::borrow_raw(file) };
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(file, punch, (first - start) as u64, len as u64)
            }
        };
        // Also with a file: a hole takes the page out of the file, and leaves the page table's mark that it has failed (KERNEL: `zap_pte_range` skips it
        // when only pages of the file go). The access would run into the mark again and again.
        // SAFETY: INV-WATCH-1: whole pages of our own range. What they held is lost already, and is noted as lost.
        let unmapped = unsafe { rustix::mm::madvise(address, len, Advice::LinuxDontNeed) };
        if punched.is_ok() && unmapped.is_ok() {
            return true;
        }
        // Locked memory is not given back. A new mapping takes its place; it is not shared with anybody who maps the same file.
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: INV-WATCH-1: the range is ours, and stays mapped readable and writable.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(address, len, ProtFlags::READ | ProtFlags::WRITE, flags)
        };
        // What the mapping was told as a whole; see `Mapping::keep_private`.
        for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
            // SAFETY: INV-WATCH-1: the range is ours, and neither advice changes what it contains.
            let _ = mapped.and_then(|_| unsafe { rustix::mm::madvise(address, len, advice) });
        }
        mapped.is_ok()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::Backing;

    /// INV-WATCH-1: a handler that entered a node for the mapping before reads none of the next one's.
    #[test]
    fn a_node_with_a_handler_inside_is_not_used_again() {
        let busy = {
            let _adding = ADDING.lock().expect("no panic while it is held");
            let node = link();
            node.inside.fetch_add(1, SeqCst);
            node
        };
        let failed = Arc::new(FailedPages::reserve(1, 4096, Backing::Heap).expect("room"));
        let watch = Watch::new(4096..8192, None, failed);
        let is_used_again = ptr::eq(watch.node, busy) || busy.is_vacant();
        // Before the assertion: the end of a watch waits for handlers.
        busy.inside.fetch_sub(1, SeqCst);
        assert!(!is_used_again);
    }
}
