//! The memory limit as owners of frames see it.
//!
//! Frames count without a charge. An owner charges everything else it keeps for them, such as
//! tables of records, before that memory is committed, and uncharges it after it was decommitted. A
//! charge covers a whole table page or chunk, since it takes the zone lock.

use super::Zone;
use super::shrinker::NoLocksHeld;
use crate::buddy::ChargePurpose;
use crate::error::AllocError;
use crate::units::FrameCount;

/// The memory of a zone compared with its limit. Units: bytes unless a field says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUsage {
    /// The most the zone may hold; `None` for no limit.
    pub limit: Option<u64>,
    /// What the zone holds.
    pub held: u64,
    /// What the zone may hold in addition.
    pub available: u64,
    /// What no other request can have: frames in use, cached, reserved or set aside for captures,
    /// the room set aside for the records of reserved frames, and tables.
    pub needed: u64,
    /// Free frames for which the OS may hold memory.
    pub unused: FrameCount,
}

impl Zone {
    /// Counts memory beside the arena against the limit, before it is committed. Units: bytes.
    ///
    /// Locking: the zone lock, for a moment.
    ///
    /// # Errors
    /// [`AllocError::Limit`] or [`AllocError::Poisoned`]; nothing has changed then.
    pub fn charge(&self, bytes: u64) -> Result<(), AllocError> {
        self.charge_for(bytes, ChargePurpose::General)
    }

    /// Charges as [`Zone::charge`] does, for the given purpose.
    ///
    /// # Errors
    /// As [`Zone::charge`].
    pub fn charge_for(&self, bytes: u64, purpose: ChargePurpose) -> Result<(), AllocError> {
        self.allocator.buddy.lock().charge(bytes, purpose)
    }

    /// Ends a [`Zone::charge`] for memory that was decommitted or never committed. Units: bytes.
    ///
    /// Locking: the zone lock, for a moment.
    pub fn uncharge(&self, bytes: u64) {
        self.allocator.with_buddy(|buddy, _| buddy.ledger.uncharge(bytes));
    }

    /// Sets the memory limit. Above it, requests are refused until enough was freed. Units: bytes.
    ///
    /// Locking: all locks of the zone for a moment, then as [`Zone::release_excess_if_due`].
    pub fn set_memory_limit(&self, limit: Option<u64>) {
        self.allocator.with_all_drained(|buddy| buddy.ledger.set_memory_limit(limit));
        self.release_excess_if_due();
    }

    /// Returns the memory of the zone and its limit.
    ///
    /// Locking: the zone lock, for a moment.
    #[must_use]
    pub fn memory(&self) -> MemoryUsage {
        let buddy = self.allocator.buddy.lock();
        let ledger = &buddy.ledger;
        MemoryUsage {
            limit: ledger.memory_limit,
            held: ledger.memory_bytes(),
            available: ledger.memory_headroom(),
            needed: ledger.needed_bytes(),
            unused: FrameCount(ledger.touched.saturating_sub(ledger.charged)),
        }
    }

    /// Decommits free pageblocks for other memory below the limit. Returns whether any was freed.
    ///
    /// Locking: the per-CPU lists, one after the other, and the zone lock, each for a moment. Calls
    /// the OS.
    pub fn release_for_charge(&self, _: &NoLocksHeld) -> bool {
        let touched = || self.allocator.read_buddy(|buddy| buddy.ledger.touched);
        let before = touched();
        self.trim();
        touched() < before
    }
}
