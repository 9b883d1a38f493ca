//! The registry of watched mappings, which a signal handler can search.

#![expect(
    unsafe_code,
    reason = "a signal handler reaches the records of a mapping through raw pointers"
)]

use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
// Not the atomics of the `sync` crate: a signal handler is not a thread that a model checker knows.
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex};

use rustix::fs::FallocateFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{FailedPages, Notice};

/// The `file` of a node whose mapping has no file.
const NONE: RawFd = -1;

/// A watched mapping, or a vacant node. A linked node is never unlinked or freed; it is reused. So
/// there are as many nodes as there were mappings and handlers at one time.
///
/// # Invariants
/// - INV-WATCH-1: from the moment `start` is not 0 until it is 0 again *and* no handler is inside
///   (`inside` is 0), `start..end` is a mapping of ours, `failed` points at its live record, and
///   `file` is its open file or [`NONE`].
/// - INV-WATCH-2: the list from [`HEAD`] only grows, and its nodes are never freed.
struct Node {
    start: AtomicUsize,
    end: AtomicUsize,
    failed: AtomicPtr<FailedPages>,
    file: AtomicI32,
    /// The number of handlers that are reading this node.
    inside: AtomicUsize,
    next: *const Node,
}

// SAFETY: `next` never changes after the node is linked (INV-WATCH-2); everything else is atomic.
unsafe impl Sync for Node {}

static HEAD: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());
/// Locked while a mapping is added.
static ADDING: Mutex<()> = Mutex::new(());

/// A registration of a mapping, whose failures are noted. Dropping it ends that; the mapping
/// outlives it.
#[derive(Debug)]
pub(crate) struct Watch {
    node: &'static Node,
    /// Keeps alive what the node points at.
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
    /// Registers `range`, whose failures are then noted if
    /// [`catch_memory_failures`](super::catch_memory_failures) was called or is called later.
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
        // SeqCst pairs with the load in `Node::handle`: a handler that reads this start also reads
        // the values stored above.
        node.start.store(range.start, SeqCst);
        Self { node, _failed: failed }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SeqCst, here and in `handle`: either the handler reads start 0, or the loop below sees
        // the handler inside.
        self.node.start.store(0, SeqCst);
        // A failure in a mapping that is being dropped is rare, and its handler is short, so this
        // spins.
        let mut spins = 0;
        while self.node.inside.load(SeqCst) > 0 {
            sync::relax(spins);
            spins += 1;
        }
    }
}

/// Adds a vacant node. The caller holds [`ADDING`].
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
        // SAFETY: INV-WATCH-2: a pointer of the list is null or points at a node that is never
        // freed.
        unsafe { node.as_ref() }
    };
    std::iter::successors(as_ref(HEAD.load(Acquire)), move |node| as_ref(node.next))
}

/// Notes a failure if the address lies in a watched mapping, and repairs the mapping if a thread
/// waits for that. Returns whether the failure is handled.
///
/// Called by the signal handler: it takes no lock and allocates nothing.
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
    /// Returns whether the node may be reused: it has no mapping, and no handler is inside.
    ///
    /// SeqCst, in this order: a handler counts itself as inside before it reads the start. A
    /// handler that read the start of the previous mapping was counted before that start became 0,
    /// so it is seen here until it leaves. A later handler reads 0, or the start of the next
    /// mapping, which is stored after all other values of that mapping (INV-WATCH-1).
    fn is_vacant(&self) -> bool {
        self.start.load(SeqCst) == 0 && self.inside.load(SeqCst) == 0
    }

    fn handle(&self, address: usize, len: usize, notice: Notice) -> bool {
        let start = self.start.load(SeqCst);
        let range = start..self.end.load(Relaxed);
        if start == 0 || !range.contains(&address) {
            return false;
        }
        // At least one system page, but nothing outside the mapping.
        let len = len.max(crate::page_size());
        let first = (address & !(len - 1)).max(range.start);
        let len = (address & !(len - 1)).saturating_add(len).min(range.end) - first;
        // SAFETY: INV-WATCH-1: the start was not 0 after this handler counted itself as inside, so
        // the record lives until the handler leaves.
        let failed = unsafe { &*self.failed.load(Relaxed) };
        // The note precedes the fresh page: see the order in `FailedPages`.
        failed.note_bytes(first - range.start, len);
        notice == Notice::ActionOptional || self.repair(range.start, first, len)
    }

    /// Replaces failed pages by fresh ones, which read as zeros. Returns whether the OS did so.
    fn repair(&self, start: usize, first: usize, len: usize) -> bool {
        let address = ptr::with_exposed_provenance_mut(first);
        let punched = match self.file.load(Relaxed) {
            NONE => Ok(()),
            file => {
                // SAFETY: INV-WATCH-1: the file is open while a handler is inside.
                let file = unsafe { BorrowedFd::borrow_raw(file) };
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(file, punch, (first - start) as u64, len as u64)
            }
        };
        // Also for a file: punching a hole removes the page from the file but leaves the poison
        // marker in the page table (KERNEL: `zap_pte_range` skips it when only file pages are
        // zapped). The access would fault on that marker again and again.
        // SAFETY: INV-WATCH-1: whole pages of our own range. Their content is lost already, and is
        // noted as lost.
        let unmapped = unsafe { rustix::mm::madvise(address, len, Advice::LinuxDontNeed) };
        if punched.is_ok() && unmapped.is_ok() {
            return true;
        }
        // The OS does not decommit locked memory. A new mapping replaces it, which other mappings
        // of the same file do not share.
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: INV-WATCH-1: the range is ours, and stays mapped readable and writable.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(address, len, ProtFlags::READ | ProtFlags::WRITE, flags)
        };
        // The new mapping lacks the advice given by `Mapping::keep_private`.
        for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
            // SAFETY: INV-WATCH-1: the range is ours, and neither advice changes its content.
            let _ = mapped.and_then(|_| unsafe { rustix::mm::madvise(address, len, advice) });
        }
        mapped.is_ok()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::Backing;

    /// INV-WATCH-1: a handler inside a node for one mapping reads no values of the next mapping.
    #[test]
    fn a_node_with_a_handler_inside_is_not_reused() {
        let busy = {
            let _adding = ADDING.lock().expect("no thread panicked with the lock");
            let node = link();
            node.inside.fetch_add(1, SeqCst);
            node
        };
        let failed = Arc::new(FailedPages::reserve(1, 4096, Backing::Heap).expect("room"));
        let watch = Watch::new(4096..8192, None, failed);
        let is_reused = ptr::eq(watch.node, busy) || busy.is_vacant();
        // Before the assertion, since dropping a watch waits for handlers to leave.
        busy.inside.fetch_sub(1, SeqCst);
        assert!(!is_reused);
    }
}
