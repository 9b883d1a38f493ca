//! The cache of hot pages: pages in use are kept uncompressed, each in a frame of its own. The slot
//! entry of a hot page names a frame chain instead of an object.
//! ```text
//!            a part is written, or the page is read twice in a short time
//!   stored -------------------------------------------------------------> hot
//!      ^                                                                   |
//!      +-------------------------------------------------------------------+
//!        the oldest page of a full cache, or memory is short: compressed
//! ```
//! # Protocol
//! It combines the chain's lock and the slot's entry; docs/locking.md has each step.
//! - A thread that *changes* bytes holds the chain exclusively and has checked under the lock that
//!   the slot still names the chain.
//! - A thread that *replaces* the page by something made from its bytes (compressed, or copied with
//!   a part changed) holds the chain shared from before it reads them until it has replaced the
//!   entry. Others replace it without a lock. The thread that did frees the chain.
//! - Only readers wait for a chain, for the time of one copy.
//!
//! # Invariants
//! - INV-HOT-1: an unlocked chain is named by the slot in its owner word. A chain that its slot
//!   does not name is dying: it is locked or marked pending, and its last holder destroys it.
//! - INV-HOT-2: a frame is on the LRU list from before its page's slot names it until it is
//!   released, except while it is isolated.

mod admission;

use std::ops::{Deref, Range};
use std::sync::Arc;

use block::Bytes;
use frames::{
    Budget, ChainId, ChainKind, Committed, Exclusive, FRAME_SIZE, FrameChains, FrameCount,
    LockedFrame, Lru, MigrateError, OwnerWords, Reclaim, ReleaseStatus, Shared, Target, Zone,
};
use page::PAGE_SIZE;
use sync::atomic::{AtomicU64, Ordering::Relaxed};
use sys::Backing;

use crate::error::ZramError;
use crate::slots::{EntryKind, SlotEntry, Slots};
use admission::{AdmissionPolicy, Doorkeeper};

/// The bytes of a hot page. Frames are smaller under a model checker.
const HOT_BYTES: usize = if FRAME_SIZE < PAGE_SIZE { FRAME_SIZE } else { PAGE_SIZE };

/// The frames of hot pages, their LRU list, and the policies of what becomes hot.
#[derive(Debug)]
pub(crate) struct HotCache {
    pub(crate) chains: FrameChains,
    /// The most frames allowed.
    pub(crate) limit: u64,
    /// The frames in use, including those of dying chains.
    used_frames: AtomicU64,
    pub(crate) doorkeeper: Doorkeeper,
    pub(crate) admission: AdmissionPolicy,
}

/// A hot page whose chain is held shared. Its slot named the chain after it was locked, and its
/// bytes do not change. Dropping it unlocks the chain.
#[derive(Debug)]
pub(crate) struct PinnedHotPage<'h> {
    hot: &'h HotCache,
    slots: &'h Slots,
    held: Option<Shared<'h>>,
    id: ChainId,
    pub(crate) slot: usize,
}

/// A hot page, or one that is about to be hot, whose chain is held exclusively. Dropping it
/// unlocks the chain if the slot names it by then, and destroys it otherwise.
#[derive(Debug)]
pub(crate) struct NewHotPage<'h> {
    hot: &'h HotCache,
    slots: &'h Slots,
    held: Option<Exclusive<'h>>,
    id: ChainId,
}

impl HotCache {
    /// Creates an empty cache of at most `size` bytes. Its tables are charged to the zone.
    pub(crate) fn new(zone: &Arc<Zone>, size: Bytes, backing: Backing) -> Result<Self, ZramError> {
        let limit = FrameCount::holding(size.0).0.min(zone.capacity().0);
        let owner = zone.reserve_lru_owner().map_err(zsmalloc::PoolError::from)?;
        let words = OwnerWords { single: 1, multi: 0 };
        let doorkeeper = Doorkeeper::new();
        zone.charge(doorkeeper.bytes() as u64).map_err(zsmalloc::PoolError::from)?;
        Ok(Self {
            // At most the frames of a zone, which 32 bits can number.
            chains: FrameChains::new(owner, limit.max(1) as usize, words, backing)?,
            limit,
            used_frames: AtomicU64::new(0),
            doorkeeper,
            admission: AdmissionPolicy::default(),
        })
    }

    pub(crate) fn lru(&self) -> Option<Lru<'_>> {
        self.chains.lru()
    }

    /// Returns the frames in use. Exact while no thread changes the device.
    pub(crate) fn used_frames(&self) -> u64 {
        // Relaxed: a count, here and below.
        self.used_frames.load(Relaxed)
    }

    /// Returns whether a page can become hot without an eviction.
    pub(crate) fn has_free_frame(&self) -> bool {
        self.used_frames() < self.limit
    }

    /// Returns the memory of the cache's tables. Units: bytes.
    pub(crate) fn metadata_bytes(&self) -> u64 {
        (self.chains.metadata_bytes() + self.doorkeeper.bytes()) as u64
    }

    /// Returns the slot that a chain was created for.
    fn slot_of(&self, id: ChainId) -> usize {
        // Relaxed: written before the chain was first unlocked, and read while it is locked.
        self.chains.owner_words(id).first().map_or(0, |word| word.load(Relaxed) as usize)
    }

    /// Locks the slot's page shared if it is hot. Waits for one copy at most.
    pub(crate) fn pin<'h>(&'h self, slots: &'h Slots, slot: usize) -> Option<PinnedHotPage<'h>> {
        let mut spins = 0;
        loop {
            let id = slots.get(slot).chain()?;
            if let Some(held) = self.chains.share(id) {
                let pinned = PinnedHotPage { hot: self, slots, held: Some(held), id, slot };
                if slots.get(slot) == pinned.entry() {
                    return Some(pinned);
                }
            }
            // The entry changed before the chain was locked, or the chain has too many readers.
            sync::relax(spins);
            spins += 1;
        }
    }

    /// Locks the page that is next to be evicted. Returns `None` if there is none or it is in use.
    pub(crate) fn pin_oldest<'h>(&'h self, slots: &'h Slots) -> Option<PinnedHotPage<'h>> {
        let id = ChainId::from_bits(self.lru()?.scan()?);
        let held = Some(self.chains.try_share(id)?);
        let pinned = PinnedHotPage { hot: self, slots, held, id, slot: self.slot_of(id) };
        (slots.get(pinned.slot) == pinned.entry()).then_some(pinned)
    }

    /// Changes the slot's page in place if it is hot and idle. Never waits. Returns whether it did.
    pub(crate) fn write_in_place(
        &self,
        slots: &Slots,
        slot: usize,
        change: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Some(id) = slots.get(slot).chain() else { return false };
        let Some(held) = self.chains.try_exclusive(id) else { return false };
        let mut fresh = NewHotPage { hot: self, slots, held: Some(held), id };
        // Locked and still named: no thread replaces the page by something made from these bytes.
        let is_held = slots.get(slot) == fresh.entry() && !fresh.has_failed();
        if is_held {
            fresh.write(change);
        }
        // A change in memory that failed meanwhile is lost: the caller must write in another way.
        is_held && !fresh.has_failed()
    }

    /// Copies `bytes` to a new frame, which the caller then makes the slot name. Returns `None` if
    /// the cache or the zone is full.
    pub(crate) fn admit<'h>(
        &'h self,
        slots: &'h Slots,
        slot: usize,
        bytes: &[u8],
    ) -> Option<NewHotPage<'h>> {
        self.charge().then_some(())?;
        let held =
            self.chains.create(ChainKind::Single, 0).inspect_err(|_| self.uncharge()).ok()?;
        let id = held.id();
        // Relaxed: published by the Release of the chain's unlock.
        self.chains.owner_words(id).iter().for_each(|word| word.store(slot as u64, Relaxed));
        // From here on, dropping `fresh` destroys the chain.
        let mut fresh = NewHotPage { hot: self, slots, held: Some(held), id };
        let held = fresh.held.as_mut()?;
        held.attach(0, Reclaim::NotAllowed).ok()?;
        let frame = held.frame(0);
        fresh.write(|page| page.copy_from_slice(bytes));
        if fresh.has_failed() {
            return None;
        }
        if let (Some(lru), Some(frame)) = (self.lru(), frame) {
            let _ = lru.add(frame);
        }
        Some(fresh)
    }

    /// Counts one frame if the limit allows it.
    fn charge(&self) -> bool {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        self.used_frames.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn uncharge(&self) {
        self.used_frames.fetch_sub(1, Relaxed);
    }

    /// Destroys a chain that its slot no longer names, now or when its last holder unlocks it. A
    /// chain that is still named stays: the id may have been reused for a newer page.
    pub(crate) fn free_or_defer(&self, slots: &Slots, id: ChainId) {
        loop {
            if let Some(held) = self.chains.try_exclusive(id) {
                // The drop destroys the chain or unlocks it.
                drop(NewHotPage { hot: self, slots, held: Some(held), id });
                return;
            }
            if self.chains.tag(id).is_none() || self.chains.mark_pending(id) {
                return;
            }
        }
    }

    /// Frees a chain that was marked pending while it was held.
    fn finish_release(&self, slots: &Slots, id: ChainId, leaving: ReleaseStatus) {
        if leaving == ReleaseStatus::Pending {
            self.free_or_defer(slots, id);
        }
    }

    /// Moves a page to another frame. Its slot names the chain, so the entry does not change.
    pub(crate) fn migrate<'z>(
        &self,
        slots: &Slots,
        from: &LockedFrame<'_>,
        to: Target<'z>,
    ) -> Result<Committed, MigrateError<'z>> {
        let moved = self.chains.migrate_frame(from, to);
        if let Some((id, leaving)) = moved.released {
            self.finish_release(slots, id, leaving);
        }
        moved.result
    }

    /// Returns whether the chain is live and was created for this slot.
    pub(crate) fn belongs_to(&self, id: ChainId, slot: usize) -> bool {
        self.chains.tag(id).is_some() && self.slot_of(id) == slot
    }
}

impl PinnedHotPage<'_> {
    pub(crate) fn entry(&self) -> SlotEntry {
        SlotEntry::new(EntryKind::Hot(self.id))
    }

    /// Returns whether the page's memory has failed: bytes read before the call are not valid then.
    pub(crate) fn has_failed(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.has_failed(0..HOT_BYTES))
    }

    /// Copies a range of the page for a reader and marks the page accessed.
    pub(crate) fn copy_to(&self, inside: Range<usize>, buf: &mut [u8]) {
        buf.copy_from_slice(&self[inside]);
        let frame = self.held.as_ref().and_then(|held| held.frame(0));
        if let (Some(lru), Some(frame)) = (self.hot.lru(), frame) {
            lru.mark_accessed(frame);
        }
    }
}

impl Deref for PinnedHotPage<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // A hot page has its frame as long as the chain is held.
        self.held.as_ref().and_then(|held| held.pieces(0..HOT_BYTES)).map_or(&[], |(page, _)| page)
    }
}

impl Drop for PinnedHotPage<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.hot.finish_release(self.slots, self.id, held.release());
        }
    }
}

impl NewHotPage<'_> {
    pub(crate) fn entry(&self) -> SlotEntry {
        SlotEntry::new(EntryKind::Hot(self.id))
    }

    fn has_failed(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.has_failed(0..HOT_BYTES))
    }

    /// Changes the bytes and marks the page accessed.
    fn write(&mut self, change: impl FnOnce(&mut [u8])) {
        let Some(held) = &mut self.held else { return };
        let frame = held.frame(0);
        if let Some((page, _)) = held.pieces_mut(0..HOT_BYTES) {
            change(page);
        }
        if let (Some(lru), Some(frame)) = (self.hot.lru(), frame) {
            lru.mark_accessed(frame);
        }
    }
}

impl Drop for NewHotPage<'_> {
    fn drop(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        // Taken before the slot is read: the thread that set the mark replaced the entry first. If
        // the slot names the chain nevertheless, the mark was meant for an older page. A mark that
        // is set later is found on unlock.
        let _ = held.take_pending();
        if self.slots.get(self.hot.slot_of(self.id)) == self.entry() {
            self.hot.finish_release(self.slots, self.id, held.release());
            return;
        }
        held.destroy();
        self.hot.uncharge();
        self.hot.chains.release_excess_if_due();
    }
}

impl Drop for HotCache {
    /// Frees every frame. No chain is held: guards borrow the cache.
    fn drop(&mut self) {
        let ids: Vec<ChainId> = self.chains.live(ChainKind::Single).collect();
        ids.into_iter().filter_map(|id| self.chains.try_exclusive(id)).for_each(Exclusive::destroy);
        self.chains.zone().uncharge(self.doorkeeper.bytes() as u64);
        self.chains.zone().release_excess(Budget::unlimited());
    }
}

#[cfg(all(test, loom))]
mod tests {
    mod loom;
}
