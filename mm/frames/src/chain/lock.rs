//! Creating chains, and taking their locks.

use sync::atomic::Ordering;

use super::chains::FrameChains;
use super::guard::{Exclusive, Shared};
use super::id::{ChainId, ChainKind};
use super::state::ChainState;
use crate::buddy::ChargePurpose;
use crate::error::AllocError;
use crate::ids::{AllocIdError, NewChunk};

/// Why no chain was created: all numbers of its kind are taken, or the zone has no memory for its
/// record. Nothing has changed.
pub type CreateError = AllocIdError<AllocError>;

/// How often a reader polls an exclusively held chain before it sleeps. Under a model checker it
/// sleeps at once.
const MAX_SPINS: u32 = if cfg!(any(loom, shuttle)) { 0 } else { 100 };

impl FrameChains {
    /// Creates a chain without frames, exclusively held, that carries the owner's `tag`.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed then.
    pub fn create(&self, kind: ChainKind, tag: u8) -> Result<Exclusive<'_>, CreateError> {
        self.create_for(kind, tag, ChargePurpose::General)
    }

    /// Creates a chain as [`FrameChains::create`] does, and charges its record for `purpose`.
    ///
    /// # Errors
    /// [`CreateError`]; nothing has changed then.
    pub fn create_for(
        &self,
        kind: ChainKind,
        tag: u8,
        purpose: ChargePurpose,
    ) -> Result<Exclusive<'_>, CreateError> {
        let records = self.records(kind);
        let bytes = |opening: NewChunk| records.chunk_bytes + opening.set_bytes;
        let charge = |opening| self.zone().charge_for(bytes(opening), purpose);
        let index = records.ids.alloc(charge)?;
        let id = ChainId::new(kind, index);
        let record = self.record(id).ok_or(CreateError::Exhausted)?;
        // Release pairs with the Acquire of a thread that finds the record live: it must see the
        // frame words cleared.
        record[0].store(ChainState::new_exclusive(tag).0, Ordering::Release);
        Ok(Exclusive { chains: self, id, record })
    }

    /// Takes the chain shared. Waits while it is exclusively held, which takes one copy: polls
    /// for a while, then sleeps. Returns `None` when the chain is vacant or has the maximum
    /// number of readers.
    ///
    /// The id may be stale: the caller checks that the chain still holds what it expects.
    #[must_use]
    pub fn share(&self, id: ChainId) -> Option<Shared<'_>> {
        sync::order::assert_may_wait(sync::Rank::Chain);
        let word = self.state(id)?;
        let mut spins = 0;
        loop {
            if let Some(shared) = self.try_share(id) {
                return Some(shared);
            }
            self.tag(id).filter(|_| !self.has_reached_max_readers(id))?;
            // Poll first: most holders leave soon.
            if spins < MAX_SPINS {
                sync::relax(spins);
                spins += 1;
            } else {
                // The holder may be off its core, or in a page fault. Relaxed: only the word
                // decides, and the parking lot's mutex orders the rest.
                let waits = ChainState::set_readers_waiting;
                let mark = || ChainState::update(word, Ordering::Relaxed, waits).is_some();
                self.waiting.park(id.index(), mark);
            }
        }
    }

    /// Takes the chain shared unless it is exclusively held or vacant. Never waits: for callers
    /// that hold a class lock.
    #[must_use]
    pub fn try_share(&self, id: ChainId) -> Option<Shared<'_>> {
        let record = self.record(id)?;
        // Acquire pairs with the Release in `Exclusive::leave`: the last holder's bytes are seen.
        let seen = ChainState::update(&record[0], Ordering::Acquire, ChainState::add_reader)?;
        Some(Shared { chains: self, id, record, tag: seen.tag() })
    }

    /// Takes the chain exclusively. Returns `None` when a guard exists. Never waits.
    #[must_use]
    pub fn try_exclusive(&self, id: ChainId) -> Option<Exclusive<'_>> {
        let record = self.record(id)?;
        // Acquire pairs with the Release of every guard that left: its reads are over and its
        // writes are seen.
        ChainState::update(&record[0], Ordering::Acquire, ChainState::set_exclusive)?;
        Some(Exclusive { chains: self, id, record })
    }
}
