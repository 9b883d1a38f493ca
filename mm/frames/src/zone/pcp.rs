//! Per-CPU lists: a few free frames at hand, so that most requests take only one uncontended lock.
//!
//! Each thread uses one list. A list is refilled from one pageblock at a time and spills its oldest
//! frames. One stray frame pins a whole pageblock, so a list holds few frames, and fewer in a
//! little-used zone. They are charged, so taking or returning one changes no shared count.

use std::sync::Arc;

use sync::atomic::Ordering::Relaxed;
use sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use sync::{Mutex, MutexGuard};

use crate::units::{MigrateType, Pfn};

/// The most frames that one list may hold, of all types together.
pub(crate) const MAX_LEN: usize = if cfg!(loom) { 2 } else { 64 };

/// The most frames taken from the buddy lists at once.
pub(crate) const BATCH: usize = if cfg!(loom) { 2 } else { 16 };

/// Returns how many frames a list may hold when `charged` frames are off the buddy lists.
pub(crate) fn capacity_for(charged: u64) -> u32 {
    // At most MAX_LEN, so it fits.
    (charged / 64).clamp(1, MAX_LEN as u64) as u32
}

/// One list and its lock, on its own cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct CpuList {
    frames: Mutex<CachedFrames>,
    /// A copy of the number of frames, to decide without the lock whether draining is worthwhile.
    len: AtomicU32,
    filled: Arc<ListMask>,
    index: usize,
    /// Whether the zone is poisoned. Here, because every allocation reads this cache line anyway.
    poisoned: AtomicBool,
}

/// The lists that may hold frames, a bit each, so that a request at the limit visits only those.
///
/// A bit is set under its list's lock, and cleared under that lock and the zone lock. So a thread
/// that holds the zone lock and finds none set knows that at one moment all lists were empty. A
/// list that becomes empty keeps its bit: only the first push after a drain writes it.
#[derive(Debug)]
pub(crate) struct ListMask {
    words: Box<[AtomicU64]>,
}

impl ListMask {
    pub(crate) fn new(lists: usize) -> Self {
        Self { words: (0..lists.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Returns the size of the bits. Units: bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    // Relaxed in all functions below: a thread that must see an earlier push learned of it through
    // the list's lock, or through other synchronization that orders the two.
    fn set(&self, list: usize) {
        let (word, bit) = (&self.words[list / 64], 1 << (list % 64));
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }

    fn clear(&self, list: usize) {
        self.words[list / 64].fetch_and(!(1 << (list % 64)), Relaxed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| word.load(Relaxed) == 0)
    }

    /// Iterates over the lists whose bit is set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            let bits = bits.load(Relaxed);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        })
    }
}

/// The frames of one list: a stack for each migrate type.
#[derive(Debug)]
pub(crate) struct CachedFrames {
    stacks: [Stack; MigrateType::ALL.len()],
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Stack {
    frames: [Pfn; MAX_LEN + 1],
    len: usize,
}

/// A locked [`CpuList`]. Dropping it publishes the new length and unlocks the list.
pub(crate) struct CpuListGuard<'z> {
    cached: MutexGuard<'z, CachedFrames>,
    list: &'z CpuList,
}

impl CpuList {
    /// Returns an empty list with this number.
    pub(crate) fn new(filled: &Arc<ListMask>, index: usize) -> Self {
        let stack = Stack { frames: [Pfn(0); MAX_LEN + 1], len: 0 };
        let frames = CachedFrames { stacks: [stack; MigrateType::ALL.len()], len: 0 };
        Self {
            frames: Mutex::ranked(sync::Rank::CpuList, frames),
            len: AtomicU32::new(0),
            filled: Arc::clone(filled),
            index,
            poisoned: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock(&self) -> CpuListGuard<'_> {
        CpuListGuard { cached: self.frames.lock(), list: self }
    }

    /// Locks the list, unless another thread holds it.
    pub(crate) fn try_lock(&self) -> Option<CpuListGuard<'_>> {
        Some(CpuListGuard { cached: self.frames.try_lock()?, list: self })
    }

    /// Keeps the frames of the list from being allocated, for good.
    pub(crate) fn poison(&self) {
        // Relaxed: it publishes no data. The thread that spilled this list when the panic began
        // holds its lock until after this store.
        self.poisoned.store(true, Relaxed);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        // Relaxed: see `poison`.
        self.poisoned.load(Relaxed)
    }

    /// Returns the number of frames when the list was last unlocked.
    pub(crate) fn len_hint(&self) -> u32 {
        // Relaxed: a hint; a thread that acts on it takes the lock.
        self.len.load(Relaxed)
    }
}

impl CpuListGuard<'_> {
    pub(crate) fn len(&self) -> u32 {
        self.cached.len
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.list.is_poisoned()
    }

    /// Takes the frame that was put in last. Returns `None` in a poisoned zone.
    pub(crate) fn pop(&mut self, migrate_type: MigrateType) -> Option<Pfn> {
        if self.is_poisoned() {
            return None;
        }
        let cached = &mut *self.cached;
        let stack = &mut cached.stacks[migrate_type.index()];
        stack.len = stack.len.checked_sub(1)?;
        cached.len -= 1;
        Some(stack.frames[stack.len])
    }

    /// Puts a frame in. There is room: the caller spills a list above its capacity at once.
    pub(crate) fn push(&mut self, migrate_type: MigrateType, pfn: Pfn) {
        if self.cached.len == 0 {
            self.mark_filled();
        }
        let cached = &mut *self.cached;
        let stack = &mut cached.stacks[migrate_type.index()];
        stack.frames[stack.len] = pfn;
        stack.len += 1;
        cached.len += 1;
    }

    /// Takes frames out, the oldest of each type first, until only `keep` are left.
    pub(crate) fn spill(&mut self, keep: u32, mut sink: impl FnMut(Pfn)) {
        let cached = &mut *self.cached;
        for stack in &mut cached.stacks {
            let count = stack.len.min(cached.len.saturating_sub(keep) as usize);
            stack.frames[..count].iter().copied().for_each(&mut sink);
            stack.frames.copy_within(count..stack.len, 0);
            stack.len -= count;
            // At most MAX_LEN + 1.
            cached.len -= count as u32;
        }
    }

    /// Sets the list's bit before frames are put in.
    pub(crate) fn mark_filled(&self) {
        self.list.filled.set(self.list.index);
    }

    /// Clears the bit of a list that was emptied. The caller must hold the zone lock.
    pub(crate) fn mark_empty(&self) {
        debug_assert_eq!(self.cached.len, 0, "a list that holds frames is marked as empty");
        self.list.filled.clear(self.list.index);
    }

    /// Returns all frames of one type, oldest first.
    pub(crate) fn frames(&self, migrate_type: MigrateType) -> &[Pfn] {
        let stack = &self.cached.stacks[migrate_type.index()];
        &stack.frames[..stack.len]
    }
}

impl Drop for CpuListGuard<'_> {
    fn drop(&mut self) {
        // Relaxed: see CpuList::len_hint.
        self.list.len.store(self.cached.len, Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pop_takes_the_newest_frame_and_spill_the_oldest() {
        let filled = Arc::new(ListMask::new(70));
        let list = CpuList::new(&filled, 67);
        let mut held = list.lock();
        assert!(filled.is_empty());
        (0..10).for_each(|n| held.push(MigrateType::Movable, Pfn(n)));
        let mut spilled = Vec::new();
        held.spill(4, |pfn| spilled.push(pfn.0));
        assert_eq!(spilled, [0, 1, 2, 3, 4, 5]);
        assert_eq!(held.pop(MigrateType::Movable), Some(Pfn(9)));
        assert_eq!(held.pop(MigrateType::Unmovable), None, "types do not mix");
        drop(held);
        assert_eq!(list.len_hint(), 3);
        assert_eq!(filled.iter().collect::<Vec<_>>(), [67]);
        let mut held = list.lock();
        held.spill(0, |_| {});
        assert!(!filled.is_empty(), "cleared with the zone lock only");
        held.mark_empty();
        assert!(filled.is_empty());
    }

    #[test]
    fn a_little_used_zone_has_short_lists() {
        assert_eq!(capacity_for(0), 1);
        assert_eq!(capacity_for(640), 10);
        assert_eq!(capacity_for(1 << 30), 64);
    }
}

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
