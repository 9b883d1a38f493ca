//! Reading of pages.

use std::time::{Duration, Instant};

use block::BlockError;
use page::{LoadError, PAGE_SIZE, Page, StoredPage};
use zsmalloc::AccessError;

use crate::counters::Counter;
use crate::inner::{Inner, offset_of};
use crate::segments::Segment;
use crate::slots::{EntryKind, SlotEntry};

/// The retries before an entry that stays stale counts as damage.
const MAX_STALE_RETRIES: u32 = 1 << 16;
/// The time to wait for a page that has too many readers.
const READER_WAIT_TIMEOUT: Duration = Duration::from_millis(200);

impl Inner {
    pub(crate) fn read_segment(&self, segment: &Segment, buf: &mut [u8]) -> Result<(), BlockError> {
        if let Ok(page) = <&mut Page>::try_from(&mut *buf) {
            return self.read_page(segment.slot, page);
        }
        // A part of a hot page is copied without the rest.
        if let Some(pinned) = self.pin(segment.slot) {
            pinned.copy_to(segment.page_range.clone(), buf);
            if pinned.has_failed() {
                return Err(BlockError::Damaged { offset: offset_of(segment.slot) });
            }
            self.counters.add(Counter::HotHits, 1);
            return Ok(());
        }
        let mut page = [0; PAGE_SIZE];
        self.read_page(segment.slot, &mut page)?;
        buf.copy_from_slice(&page[segment.page_range.clone()]);
        Ok(())
    }

    fn read_page(&self, slot: usize, page: &mut Page) -> Result<(), BlockError> {
        let entry = self.load(slot, page)?;
        match entry.kind() {
            EntryKind::Hot(_) => self.counters.add(Counter::HotHits, 1),
            // A page that had to be decompressed becomes hot if it is read often.
            EntryKind::Stored(StoredPage::Compressed(_)) => {
                if let Some(hot) = &self.hot
                    && hot.has_free_frame()
                    && hot.doorkeeper.seen_before(slot)
                    && let Some(fresh) = self.admit(slot, page)
                {
                    self.replace(slot, entry, fresh.entry())?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the page of a slot and returns the entry it was read from.
    pub(crate) fn load(&self, slot: usize, page: &mut Page) -> Result<SlotEntry, BlockError> {
        let (mut tries, mut waiting_since) = (0, None);
        while tries < MAX_STALE_RETRIES {
            tries += 1;
            let entry = self.slots.get(slot);
            let stored = match entry.kind() {
                EntryKind::Stored(stored) => stored,
                EntryKind::Empty | EntryKind::Reserved => {
                    page.fill(0);
                    return Ok(entry);
                }
                EntryKind::Hot(_) => {
                    let Some(pinned) = self.pin(slot) else { continue };
                    pinned.copy_to(0..PAGE_SIZE, page);
                    if pinned.has_failed() {
                        break;
                    }
                    return Ok(pinned.entry());
                }
                EntryKind::Invalid => break,
            };
            match self.pages.load(stored, page) {
                Ok(()) => return Ok(entry),
                // Overwritten between `get` and `load`: the slot holds another entry now (Z2).
                Err(LoadError::Access(AccessError::Stale)) => sync::relax(tries),
                // Waiting for other readers is bounded by time, not by `tries`.
                Err(LoadError::Access(AccessError::TooManyReaders)) => {
                    let since = waiting_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > READER_WAIT_TIMEOUT {
                        return Err(BlockError::Busy { offset: offset_of(slot) });
                    }
                    tries -= 1;
                    sync::relax(u32::MAX);
                }
                Err(LoadError::Access(AccessError::Poisoned)) => return Err(BlockError::Poisoned),
                Err(_) => break,
            }
        }
        Err(BlockError::Damaged { offset: offset_of(slot) })
    }
}
