//! Watched mappings, and the list in which a signal handler finds them.

#![expect(
    unsafe_code,
    reason = "a signal handler reaches the records of a mapping through raw pointers"
)]

use std::ops::{Deref, Range};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
// Not the atomics of the `sync` crate: a signal handler is not a thread that a model checker knows.
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FallocateFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{FailedPages, Notice};
use crate::{Backing, Mapping};

/// The `file` of a node whose mapping has no file.
const NONE: RawFd = -1;

/// A watched mapping, or a vacant node, which is reused.
///
/// # Invariants
/// - INV-WATCH-1: from the moment `start` is not 0 until it is 0 again *and* no handler is inside
///   (`inside` is 0), `start..end` is a mapping of ours, `failed` points at its live record, and
///   `file` is its open file or [`NONE`].
/// - INV-WATCH-2: the list from [`HEAD`] only grows, and its nodes are never freed.
#[derive(Debug)]
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

/// A mapping whose failed pages are noted. The [module](super) says what its users must do.
#[derive(Debug)]
pub struct WatchedMapping {
    /// `None` for a heap backing.
    node: Option<&'static Node>,
    mapping: Mapping,
    /// Keeps alive what the node points at.
    _failed: Arc<FailedPages>,
}

impl WatchedMapping {
    /// Notes failed pages of `mapping` in `failed` from now on. The page size of `failed` divides
    /// that of the mapping. A heap is not watched, since its pages cannot be replaced.
    #[must_use]
    pub fn new(mapping: Mapping, failed: Arc<FailedPages>) -> Self {
        let start = mapping.base().as_ptr().expose_provenance();
        let range = start..start + mapping.len();
        let is_heap = mapping.backing() == Backing::Heap;
        let node = (!is_heap).then(|| Node::watch(range, mapping.file(), &failed));
        Self { node, mapping, _failed: failed }
    }
}

impl Drop for WatchedMapping {
    /// Ends the watch before the fields are dropped: a late signal finds no mapping (INV-WATCH-1).
    fn drop(&mut self) {
        self.node.into_iter().for_each(Node::unwatch);
    }
}

impl Deref for WatchedMapping {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.mapping
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
/// waits for that. Returns whether the failure is handled. Async-signal-safe.
pub(super) fn handle(address: usize, len: usize, notice: Notice) -> bool {
    nodes().any(|node| {
        // SeqCst: see `Node::unwatch`.
        node.inside.fetch_add(1, SeqCst);
        let handled = node.handle(address, len, notice);
        node.inside.fetch_sub(1, SeqCst);
        handled
    })
}

impl Node {
    /// Registers `range`. The caller owns the range, the file and the record, and calls
    /// [`Node::unwatch`] before it drops them.
    fn watch(range: Range<usize>, file: Option<&OwnedFd>, failed: &FailedPages) -> &'static Self {
        let _adding = ADDING.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes().find(|node| node.is_vacant()).unwrap_or_else(link);
        node.end.store(range.end, Relaxed);
        node.file.store(file.map_or(NONE, AsRawFd::as_raw_fd), Relaxed);
        node.failed.store(ptr::from_ref(failed).cast_mut(), Relaxed);
        // SeqCst pairs with the load in `Node::handle`: a reader of this start reads the rest, too.
        node.start.store(range.start, SeqCst);
        node
    }

    /// Ends the watch, and waits for handlers that are inside.
    fn unwatch(&self) {
        // SeqCst, here and in `handle`: a handler reads start 0, or the loop below sees it inside.
        self.start.store(0, SeqCst);
        // Spins: a failure in a mapping that is being dropped is rare, and its handler is short.
        let mut spins = 0;
        while self.inside.load(SeqCst) > 0 {
            sync::relax(spins);
            spins += 1;
        }
    }

    /// Returns whether the node may be reused: it has no mapping, and no handler is inside.
    ///
    /// SeqCst, in this order: a handler counts itself as inside before it reads the start. So one
    /// that read the start of the previous mapping is seen here until it leaves. A later one reads
    /// 0, or the start of the next mapping, which is stored after its other values (INV-WATCH-1).
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
        // Also for a file: punching a hole leaves the poison marker in the page table, on which the
        // access would fault again (KERNEL: `zap_pte_range` skips it when it zaps file pages only).
        // SAFETY: INV-WATCH-1: whole pages of our own range. Their content is lost already, and is
        // noted as lost.
        let unmapped = unsafe { rustix::mm::madvise(address, len, Advice::LinuxDontNeed) };
        if punched.is_ok() && unmapped.is_ok() {
            return true;
        }
        // The OS does not decommit locked memory: a new mapping replaces it, not shared by others.
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
        let node = Node::watch(4096..8192, None, &failed);
        let is_reused = ptr::eq(node, busy) || busy.is_vacant();
        // Before `unwatch`, which waits for handlers to leave.
        busy.inside.fetch_sub(1, SeqCst);
        node.unwatch();
        assert!(!is_reused);
    }
}
