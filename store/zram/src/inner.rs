//! The state of a device, and the replacement of a slot's entry.

use std::sync::Arc;

use block::BlockError;
use frames::{FrameCount, Reservation, ShrinkerRegistration, Zone};
use page::{PAGE_SIZE, Pages, StoredPage};

use crate::config::ZramConfig;
use crate::counters::{Counter, Counters};
use crate::hot::{HotCache, PinnedHotPage};
use crate::nearly_full::NearlyFullAlarm;
use crate::reclaimer::Reclaimer;
use crate::slots::{EntryKind, ExchangeError, SlotEntry, Slots};

/// The state of a device. The zone refers to it for the frames of hot pages.
#[derive(Debug)]
pub(crate) struct Inner {
    /// Registered until the device is dropped.
    pub(crate) _shrinker: Option<ShrinkerRegistration>,
    pub(crate) config: ZramConfig,
    pub(crate) zone: Arc<Zone>,
    pub(crate) slots: Slots,
    pub(crate) pages: Pages,
    pub(crate) counters: Counters,
    pub(crate) hot: Option<HotCache>,
    pub(crate) reclaimer: Reclaimer,
    pub(crate) alarm: NearlyFullAlarm,
    /// The memory of the streams, which is charged to the zone. Units: bytes.
    pub(crate) stream_bytes: u64,
}

/// The result of replacing a slot's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    Done,
    /// Another thread changed the slot first; it holds this entry now.
    Changed(SlotEntry),
    /// The slot is empty, and there is no memory for its chunk.
    NoMemory,
}

impl Inner {
    /// Locks the slot's page if it is hot.
    pub(crate) fn pin(&self, slot: usize) -> Option<PinnedHotPage<'_>> {
        self.hot.as_ref()?.pin(&self.slots, slot)
    }

    /// Calls the callback if the device just came near its limit.
    pub(crate) fn check_limit(&self) {
        self.alarm.check(self.zone.memory());
    }

    /// Puts `new` in the slot if it still holds `old`, and frees what `old` refers to.
    #[inline]
    fn exchange(
        &self,
        slot: usize,
        old: SlotEntry,
        new: SlotEntry,
    ) -> Result<Replaced, BlockError> {
        match self.slots.compare_exchange(slot, old, new) {
            Ok(()) => {}
            Err(ExchangeError::Changed(now)) => return Ok(Replaced::Changed(now)),
            Err(ExchangeError::NoMemory) => return Ok(Replaced::NoMemory),
        }
        self.account(old, new);
        self.free(old)?;
        Ok(Replaced::Done)
    }

    /// Puts `new` in the slot if it still holds `old`, and frees the entry that is left over.
    pub(crate) fn replace(
        &self,
        slot: usize,
        old: SlotEntry,
        new: SlotEntry,
    ) -> Result<Replaced, BlockError> {
        let outcome = self.exchange(slot, old, new)?;
        if outcome != Replaced::Done {
            self.free(new)?;
        }
        Ok(outcome)
    }

    /// Puts `new` in the slot and frees the entry it replaces. With [`Replaced::NoMemory`],
    /// which never happens when `new` is the empty entry, the caller still owns `new`.
    pub(crate) fn set_entry(&self, slot: usize, new: SlotEntry) -> Result<Replaced, BlockError> {
        let mut old = self.slots.get(slot);
        loop {
            match self.exchange(slot, old, new)? {
                Replaced::Changed(now) => old = now,
                outcome => return Ok(outcome),
            }
        }
    }

    /// Puts reserved zeros in the slot if it still holds `old`, with a frame of `reservation`.
    pub(crate) fn set_reserved(
        &self,
        slot: usize,
        old: SlotEntry,
        reservation: &mut Reservation<'_>,
    ) -> Result<Replaced, BlockError> {
        let outcome = self.exchange(slot, old, SlotEntry::RESERVED);
        // An error comes after the exchange: the entry stands for the reserved frame.
        if matches!(outcome, Ok(Replaced::Done) | Err(_)) {
            let detached = reservation.detach(FrameCount(1));
            debug_assert!(detached, "the reservation has no frame");
        }
        outcome
    }

    /// Frees what the entry refers to: an object, a hot page or a reservation.
    pub(crate) fn free(&self, entry: SlotEntry) -> Result<(), BlockError> {
        // INV-SLOT-3: only this thread owns the entry. So a reservation is released once, and an
        // object is live; a pool that lost it is damaged.
        let freed = match entry.kind() {
            EntryKind::Empty | EntryKind::Invalid | EntryKind::Stored(StoredPage::Same(_)) => {
                return Ok(());
            }
            EntryKind::Stored(page) => self.pages.free(page),
            EntryKind::Reserved => {
                drop(self.zone.reattach(FrameCount(1)));
                Ok(())
            }
            EntryKind::Hot(chain) => {
                if let Some(hot) = &self.hot {
                    hot.free_or_defer(&self.slots, chain);
                }
                Ok(())
            }
        };
        // After the free: an unchanged count means that nothing was freed.
        self.counters.add(Counter::Freed, 1);
        freed.map_err(|_| BlockError::Poisoned)
    }

    /// Updates the counters that follow the content of slots.
    pub(crate) fn account(&self, old: SlotEntry, new: SlotEntry) {
        let shift = |counter, was: bool, is: bool| match (was, is) {
            (false, true) => self.counters.add(counter, 1),
            (true, false) => self.counters.sub(counter, 1),
            _ => {}
        };
        shift(Counter::PagesStored, old != SlotEntry::EMPTY, new != SlotEntry::EMPTY);
        shift(Counter::Reserved, old == SlotEntry::RESERVED, new == SlotEntry::RESERVED);
        shift(Counter::SamePages, old.is_same_filled(), new.is_same_filled());
        shift(Counter::HugePages, old.is_huge(), new.is_huge());
        if new.is_huge() {
            self.counters.add(Counter::HugePagesSince, 1);
        }
    }
}

/// Releases the remaining reservations, since the zone may outlive the device.
impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.zone.reattach(FrameCount(self.counters.get(Counter::Reserved))));
    }
}

pub(crate) fn offset_of(slot: usize) -> u64 {
    slot as u64 * PAGE_SIZE as u64
}
