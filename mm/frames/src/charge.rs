//! The memory limit as owners of frames see it.
//!
//! Frames count by themselves. Everything else an owner keeps for them, such as tables of records, it charges before the memory is committed and
//! uncharges after it went back. Charges are for whole table pages or chunks: they take the zone lock, which is too dear for single objects.

use crate::error::AllocError;
use crate::reclaim::NoLocksHeld;
use crate::units::FrameCount;
use crate::zone::Zone;

/// The memory of a zone against its limit.
///
/// Units: bytes where it says nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUsage {
    /// What it may hold; `None` for any amount.
    pub limit: Option<u64>,
    /// What it holds.
    pub held: u64,
    /// What it may hold in addition.
    pub available: u64,
    /// What no other request can have: frames in use, cached, reserved or kept for captures, the room kept
    /// for the records of reserved frames, and tables.
    pub needed: u64,
    /// Free frames for which the OS may hold memory.
    pub unused: FrameCount,
}

/// What charged memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargePurpose {
    /// It leaves what is kept for the records of reserved frames.
    General,
    /// The records of what is stored in a reserved frame.
    ReservedFrame,
}

impl Zone {
    /// Counts memory beside the arena against the memory limit, before it is committed. Units: bytes.
    ///
    /// Locking: the zone lock, for a moment.
    ///
    /// # Errors
    /// [`AllocError::Limit`] or [`AllocError::Poisoned`]; nothing has changed then.
    pub fn charge(&self, bytes: u64) -> Result<(), AllocError> {
        self.charge_for(bytes, ChargePurpose::General)
    }

    /// As [`Zone::charge`], and says what it is for.
    ///
    /// # Errors
    /// As [`Zone::charge`].
    pub fn charge_for(&self, bytes: u64, purpose: ChargePurpose) -> Result<(), AllocError> {
        self.buddy.lock().charge(bytes, purpose)
    }

    /// Ends [`Zone::charge`] for memory that went back, or was not committed after all. Units: bytes.
    ///
    /// Locking: the zone lock, for a moment.
    pub fn uncharge(&self, bytes: u64) {
        if let Some(mut buddy) = self.buddy.lock_unpoisoned() {
            buddy.memory.charged -= bytes;
        }
    }

    /// Changes how much the zone may hold. When it holds more already, requests are refused until enough went back. Units: bytes.
    ///
    /// Locking: takes all locks of the zone for a moment, then as [`Zone::release_excess_if_due`].
    pub fn set_memory_limit(&self, limit: Option<u64>) {
        let mut all = self.lock_all();
        all.drain(self);
        all.buddy.memory.limit = limit;
        all.buddy.note_exceeded();
        drop(all);
        self.release_excess_if_due();
    }

    /// How near the zone is to its memory limit.
    ///
    /// Locking: the zone lock, for a moment.
    #[must_use]
    pub fn memory(&self) -> MemoryUsage {
        let buddy = self.buddy.lock();
        MemoryUsage {
            limit: buddy.memory.limit,
            held: buddy.memory_bytes(),
            available: buddy.memory_headroom(),
            needed: buddy.needed_bytes(),
            unused: FrameCount(buddy.memory.touched.saturating_sub(buddy.charged)),
        }
    }

    /// Gives the memory of wholly free pageblocks back so that something else can have it below the limit. Returns whether there was any.
    ///
    /// Locking: the per-CPU lists, one after the other, and the zone lock, in short turns; the OS is called.
    pub fn release_for_charge(&self, _: &NoLocksHeld) -> bool {
        let before = self.buddy.lock().memory.touched;
        self.trim();
        self.buddy.lock().memory.touched < before
    }
}
