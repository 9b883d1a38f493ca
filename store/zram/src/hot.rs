//! The cache of hot pages: pages held uncompressed, each in a frame of its own, while they are in use.
//!
//! Such a page's slot word names a chain instead of an object. Reading it is a copy; writing to it, even a part of it, is a copy in place.
//! ```text
//!            part of it written, or read twice in a short time
//!   stored -------------------------------------------------> hot
//!      ^                                                       |
//!      +-------------------------------------------------------+
//!        oldest of a full cache, or memory is short: compressed
//! ```
//! # Protocol
//! The chain's lock and the slot's word together; docs/locking.md tells it in full.
//! - A word names a chain or does not; only compare-and-swap changes that. Whoever swaps the word out ends the chain.
//! - Whoever *changes* bytes holds the chain alone, and has looked again that the slot still names it.
//! - Whoever *replaces* the page by something made from its bytes (compressed, or copied with a part changed) holds the chain shared from before it
//!   reads them until it has swapped the word. So no change can come between, and a change that was acknowledged is in what replaces the page.
//! - Whoever replaces it by something else (an overwrite, a discard) needs no hold.
//! - Nobody waits for a chain but readers, for one copy.
//!
//! # Invariants
//! - INV-HOT-1: a chain that nobody holds is named by the slot in its word; one that is not, is dying: it is held or marked, and the last to
//!   leave ends it.
//! - INV-HOT-2: a frame is on the LRU list from before its page's slot names it until it is released, but for the time it is isolated.

mod admission;
mod doorkeeper;
mod evict;

use std::ops::Deref;
use std::sync::{Arc, Weak};

use block::Bytes;
use frames::{
    Budget, ChainId, ChainKind, Committed, Exclusive, FRAME_SIZE, FrameChains, LockedFrame, Lru,
    MigrateError, MovableOps, OwnerWords, Reclaim, ReleaseStatus, Shared, Target, Zone,
};
use page::{EntryKind, PAGE_SIZE, SlotEntry};
use sync::atomic::{AtomicU64, Ordering::Relaxed};
use sys::Backing;

use crate::ZramError;
use crate::slots::Slots;
use admission::AdmissionPolicy;
use doorkeeper::Doorkeeper;

/// Bytes of a hot page. A model checker has smaller frames.
pub(crate) const HOT_BYTES: usize = if FRAME_SIZE < PAGE_SIZE { FRAME_SIZE } else { PAGE_SIZE };

/// The frames of hot pages and who is next to go.
#[derive(Debug)]
pub(crate) struct HotCache {
    chains: FrameChains,
    /// Frames there may be.
    limit: u64,
    /// Frames there are, those of dying chains among them.
    used_frames: AtomicU64,
    pub(crate) doorkeeper: Doorkeeper,
    pub(crate) admission: AdmissionPolicy,
}

/// A hot page held for reading: it is what its slot holds, or was when this was made, and nobody changes its bytes. Dropping it leaves.
#[derive(Debug)]
pub(crate) struct PinnedHotPage<'h> {
    hot: &'h HotCache,
    slots: &'h Slots,
    held: Option<Shared<'h>>,
    id: ChainId,
    slot: usize,
}

/// A page that is going to be hot, held alone. Dropping it lets others in if its slot names it by then, else it ends.
#[derive(Debug)]
pub(crate) struct NewHotPage<'h> {
    hot: &'h HotCache,
    slots: &'h Slots,
    held: Option<Exclusive<'h>>,
    id: ChainId,
}

impl HotCache {
    /// An empty cache of at most this size.
    pub(crate) fn new(zone: &Arc<Zone>, size: Bytes, backing: Backing) -> Result<Self, ZramError> {
        let limit = frames::FrameCount::holding(size.0).0.min(zone.capacity().0);
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
            admission: AdmissionPolicy::new(),
        })
    }

    /// From here on the zone may have frames moved.
    pub(crate) fn publish(&self, ops: Weak<dyn MovableOps>) {
        self.chains.publish(ops);
    }

    pub(crate) fn lru(&self) -> Option<&Lru> {
        self.chains.lru()
    }

    /// Frames of hot pages. Exact when nobody changes the device.
    pub(crate) fn used_frames(&self) -> u64 {
        // Relaxed: a count; so for all below.
        self.used_frames.load(Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether a page can become hot without another one leaving.
    pub(crate) fn has_room(&self) -> bool {
        self.used_frames() < self.limit
    }

    /// Memory of the records, in bytes.
    pub(crate) fn metadata_bytes(&self) -> u64 {
        (self.chains.metadata_bytes() + self.doorkeeper.bytes()) as u64
    }

    /// The slot a chain was made for.
    pub(crate) fn slot_of(&self, id: ChainId) -> usize {
        // Relaxed: written before the chain was first let go of, and looked at while it is held.
        self.chains.owner_words(id).first().map_or(0, |word| word.load(Relaxed) as usize)
    }

    /// Holds the slot's page if it is hot. Waits at most for one copy.
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
            sync::relax(spins);
            spins += 1;
        }
    }

    /// Holds the page that had best go next; `None` when there is none, or when it is in use just now.
    pub(crate) fn pin_oldest<'h>(&'h self, slots: &'h Slots) -> Option<PinnedHotPage<'h>> {
        let id = ChainId::from_bits(self.lru()?.scan()?);
        let held = self.chains.try_share(id)?;
        let pinned =
            PinnedHotPage { hot: self, slots, held: Some(held), id, slot: self.slot_of(id) };
        (slots.get(pinned.slot) == pinned.entry()).then_some(pinned)
    }

    /// Changes the slot's page in place, if it is hot and nobody is inside. Never waits.
    pub(crate) fn write_in_place(
        &self,
        slots: &Slots,
        slot: usize,
        change: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Some(id) = slots.get(slot).chain() else { return false };
        let Some(held) = self.chains.try_exclusive(id) else { return false };
        let mut fresh = NewHotPage { hot: self, slots, held: Some(held), id };
        // Alone inside and still what the slot holds: nobody replaces it by something made from these bytes before we leave.
        let is_held = slots.get(slot) == fresh.entry() && !fresh.has_failed();
        if is_held {
            fresh.write(change);
        }
        // Memory that fails meanwhile holds no change; the caller goes another way.
        is_held && !fresh.has_failed()
    }

    /// Puts bytes into a frame, for a slot that is then made to name it; `None` when there is no room in the cache or in the zone.
    pub(crate) fn admit<'h>(
        &'h self,
        slots: &'h Slots,
        slot: usize,
        bytes: &[u8],
    ) -> Option<NewHotPage<'h>> {
        self.charge().then_some(())?;
        let Ok(mut held) = self.chains.create(ChainKind::Single, 0) else {
            self.uncharge();
            return None;
        };
        if held.attach(0, Reclaim::NotAllowed).is_err() {
            held.destroy();
            self.uncharge();
            return None;
        }
        let id = held.id();
        // Relaxed: published by the Release of whoever lets go of the chain.
        self.chains.owner_words(id).iter().for_each(|word| word.store(slot as u64, Relaxed));
        let frame = held.frame(0);
        let mut fresh = NewHotPage { hot: self, slots, held: Some(held), id };
        fresh.write(|page| page.copy_from_slice(bytes));
        if fresh.has_failed() {
            return None;
        }
        if let (Some(lru), Some(frame)) = (self.lru(), frame) {
            let _ = lru.add(frame);
        }
        Some(fresh)
    }

    fn charge(&self) -> bool {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        self.used_frames.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn uncharge(&self) {
        self.used_frames.fetch_sub(1, Relaxed);
    }

    /// Ends a chain that its slot does not name any more, now or when whoever is inside leaves. For one that is named it does nothing, so that
    /// nobody has to know how often it is called: the number may stand for a younger page by now.
    pub(crate) fn free_or_defer(&self, slots: &Slots, id: ChainId) {
        loop {
            if let Some(held) = self.chains.try_exclusive(id) {
                // Dropped: ends it or leaves.
                drop(NewHotPage { hot: self, slots, held: Some(held), id });
                return;
            }
            if self.chains.tag(id).is_none() || self.chains.mark_pending(id) {
                return;
            }
        }
    }

    fn finish_release(&self, slots: &Slots, id: ChainId, leaving: ReleaseStatus) {
        if leaving == ReleaseStatus::Pending {
            self.free_or_defer(slots, id);
        }
    }

    pub(crate) fn can_isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.chains.can_isolate(frame)
    }

    /// Moves a page to another frame. The slot names the chain, so it does not change.
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

    /// Whether a chain is there and was made for this slot. For checks.
    pub(crate) fn belongs_to(&self, id: ChainId, slot: usize) -> bool {
        self.chains.tag(id).is_some() && self.slot_of(id) == slot
    }
}

impl PinnedHotPage<'_> {
    /// The word of its slot.
    pub(crate) fn entry(&self) -> SlotEntry {
        SlotEntry::new(EntryKind::Hot(self.id))
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Whether its memory has failed by now: then what was read of it so far is not to be trusted.
    pub(crate) fn has_failed(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.has_failed(0..HOT_BYTES))
    }

    /// Notes that it is in use.
    pub(crate) fn mark_accessed(&self) {
        let frame = self.held.as_ref().and_then(|held| held.frame(0));
        if let (Some(lru), Some(frame)) = (self.hot.lru(), frame) {
            lru.mark_accessed(frame);
        }
    }
}

impl Deref for PinnedHotPage<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // A hot page has its frame as long as somebody is inside.
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
    /// The word for its slot.
    pub(crate) fn entry(&self) -> SlotEntry {
        SlotEntry::new(EntryKind::Hot(self.id))
    }

    fn has_failed(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.has_failed(0..HOT_BYTES))
    }

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
        // Before the look: whoever made this mark swapped the word first. If the slot names the chain all the same, the mark was meant for an older
        // page; one that comes later is told on leaving.
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
    /// Frees every frame. Nobody is inside: guards borrow the cache.
    fn drop(&mut self) {
        let ids: Vec<ChainId> = self.chains.live(ChainKind::Single).collect();
        ids.into_iter().filter_map(|id| self.chains.try_exclusive(id)).for_each(Exclusive::destroy);
        self.chains.zone().uncharge(self.doorkeeper.bytes() as u64);
        self.chains.zone().release_excess(Budget::unlimited());
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
