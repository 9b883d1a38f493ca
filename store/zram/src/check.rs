//! The check of a device's statistics against a recount of its slot table.

use std::collections::HashSet;

use page::PAGE_SIZE;
use thiserror::Error;

use crate::hot::HotCache;
use crate::slots::{CHUNK_SLOTS, EntryKind, SlotEntry};
use crate::zram::Zram;

/// An inconsistency of a device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    /// The zone is inconsistent.
    #[error("zone is inconsistent: {0}")]
    Zone(#[from] frames::CheckError),
    /// The pool is inconsistent.
    #[error("pool is inconsistent: {0}")]
    Pool(#[from] zsmalloc::CheckError),
    /// A statistic differs from its recount.
    #[error("{what}: the statistic is {kept}, the recount {counted}")]
    Count {
        /// The name of the statistic.
        what: &'static str,
        /// The value of the statistic.
        kept: u64,
        /// The value recounted.
        counted: u64,
    },
    /// A slot names no live object, or one that another slot names, too.
    #[error("slot {slot} holds {word:#x}: {what}")]
    Slot {
        /// The number of the slot.
        slot: usize,
        /// The bits of its entry.
        word: u64,
        /// The inconsistency.
        what: &'static str,
    },
}

/// The statistics recounted from all slots.
#[derive(Debug, Default)]
struct Recount {
    stored: u64,
    same: u64,
    reserved: u64,
    huge: u64,
    hot: u64,
    bytes: u64,
    handles: HashSet<u64>,
}

impl Zram {
    /// Checks zone, pool and slots, and each statistic against a recount from the slot table
    /// . No other thread may use the device meanwhile.
    ///
    /// # Errors
    /// [`CheckError`] for the first inconsistency.
    pub fn check(&self) -> Result<(), CheckError> {
        self.0.zone.check()?;
        self.0.pages.pool().check()?;
        let recount = self.recount()?;
        let stat = self.stat();
        let pool = self.0.pages.pool().stats();
        let memory = stat.memory;
        let zone = self.0.zone.stats();
        let frames = memory.live + memory.rounding + memory.holes;
        let lists = self.check_hot()?;
        let held = memory.mem_total + zone.ballooned.bytes();
        // Neither frames nor the zone's own tables.
        let tables = memory.handles + memory.zspages + memory.slots + memory.hot_records;
        // Each row: the statistic's name, its value, and what it must equal.
        let numbers = [
            ("orig_data_size", stat.mm.orig_data_size, recount.stored * PAGE_SIZE as u64),
            ("same_pages", stat.mm.same_pages, recount.same),
            ("reserved", stat.reserved, recount.reserved * PAGE_SIZE as u64),
            ("frames reserved", zone.reserved.0, recount.reserved),
            ("huge_pages", stat.mm.huge_pages, recount.huge),
            ("compr_data_size", stat.mm.compr_data_size, recount.bytes),
            ("objects", pool.objects, recount.handles.len() as u64),
            ("mem_used_total", stat.mm.mem_used_total, frames),
            ("frames in use", zone.in_use.bytes() - zone.ballooned.bytes(), frames + memory.hot),
            ("hot_pages", stat.hot.hot_pages, recount.hot),
            ("hot pages on LRU lists", lists, recount.hot),
            ("mem_total", memory.mem_total, memory.summed().mem_total),
            ("memory charged to the zone", zone.charged_bytes, tables + memory.streams),
            ("memory held", zone.memory_bytes + zone.balloon_record_bytes, held),
        ];
        numbers.into_iter().try_for_each(|(what, kept, counted)| equal(what, kept, counted))
    }

    /// Checks the LRU lists of hot pages and returns the number of pages on them.
    fn check_hot(&self) -> Result<u64, CheckError> {
        let Some(lru) = self.0.hot.as_ref().and_then(HotCache::lru) else { return Ok(0) };
        lru.check()?;
        let lists = lru.stats();
        Ok(lists.inactive.0 + lists.active.0)
    }

    fn recount(&self) -> Result<Recount, CheckError> {
        let mut recount = Recount::default();
        for chunk in 0..self.0.slots.len() / CHUNK_SLOTS {
            let (kept, before) = (self.0.slots.occupied(chunk), recount.stored);
            if kept > 0 {
                for slot in chunk * CHUNK_SLOTS..(chunk + 1) * CHUNK_SLOTS {
                    self.recount_slot(slot, &mut recount)?;
                }
            }
            equal("slots of a chunk", kept as u64, recount.stored - before)?;
        }
        Ok(recount)
    }

    fn recount_slot(&self, slot: usize, recount: &mut Recount) -> Result<(), CheckError> {
        let stored = self.0.slots.get(slot);
        let wrong = |what| CheckError::Slot { slot, word: stored.to_bits(), what };
        if stored.kind() == EntryKind::Invalid {
            return Err(wrong("the entry has no valid form"));
        }
        recount.stored += u64::from(stored != SlotEntry::EMPTY);
        recount.same += u64::from(stored.is_same_filled());
        recount.reserved += u64::from(stored == SlotEntry::RESERVED);
        recount.huge += u64::from(stored.is_huge());
        // A hot page's chain must be live and be this slot's.
        if let Some(chain) = stored.chain() {
            if !self.0.hot.as_ref().is_some_and(|hot| hot.belongs_to(chain, slot)) {
                return Err(wrong("its chain is free or belongs to another slot"));
            }
            recount.hot += 1;
        }
        // An object must be live and belong to one slot alone.
        if let EntryKind::Stored(page) = stored.kind()
            && let Some(handle) = page.handle()
        {
            if !recount.handles.insert(handle.to_bits()) {
                return Err(wrong("another slot has the same handle"));
            }
            recount.bytes +=
                self.0.pages.stored_len(page).map_err(|_| wrong("its object is freed"))? as u64;
        }
        Ok(())
    }
}

fn equal(what: &'static str, kept: u64, counted: u64) -> Result<(), CheckError> {
    if kept == counted { Ok(()) } else { Err(CheckError::Count { what, kept, counted }) }
}
