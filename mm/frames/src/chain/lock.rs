//! Creating chains, and taking their locks.

use sync::atomic::Ordering;
use thiserror::Error;

use super::chains::FrameChains;
use super::guard::{Exclusive, Shared};
use super::id::{ChainId, ChainKind};
use super::state::ChainState;
use crate::buddy::ChargePurpose;
use crate::error::AllocError;
use crate::ids::AllocIdError;

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
        let chunk = records.chunk_bytes(kind);
        let index = records
            .ids
            .alloc(|opening| self.zone().charge_for(chunk + opening.set_bytes, purpose))?;
        let id = ChainId::new(kind, index);
        let record = self.record(id).ok_or(CreateError::Numbers)?;
        // Release pairs with the Acquire of a thread that finds the record live: it must see the
        // frame words cleared.
        record[0].store(ChainState::new_exclusive(tag).bits(), Ordering::Release);
        Ok(Exclusive::new(self, id, record))
    }

    /// Takes the chain shared. Waits while it is exclusively held, which takes one copy: polls
    /// for a while, then sleeps. Returns `None` when the chain is vacant or has the maximum
    /// number of readers.
    ///
    /// The id may be stale: the caller checks afterwards that the chain still holds what it
    /// expects.
    #[must_use]
    pub fn share(&self, id: ChainId) -> Option<Shared<'_>> {
        sync::order::assert_may_wait(sync::Rank::Chain);
        let mut spins = 0;
        loop {
            if let Some(shared) = self.try_share(id) {
                return Some(shared);
            }
            self.tag(id)?;
            if self.has_reached_max_readers(id) {
                return None;
            }
            // Poll first: most holders leave soon.
            if spins < MAX_SPINS {
                sync::relax(spins);
                spins += 1;
            } else {
                self.wait_for_holder(id);
            }
        }
    }

    /// Sleeps until the exclusive holder leaves. The holder may be off its core, or in a page
    /// fault.
    fn wait_for_holder(&self, id: ChainId) {
        let Some(state) = self.state(id) else { return };
        self.waiting.park(id.index(), || {
            // Relaxed: only the word decides, and the parking lot's mutex orders the rest.
            let waits =
                |bits: u32| ChainState::from_bits(bits).set_readers_waiting().map(ChainState::bits);
            state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits).is_ok()
        });
    }

    /// Takes the chain shared unless it is exclusively held or vacant. Never waits: for callers
    /// that hold a class lock.
    #[must_use]
    pub fn try_share(&self, id: ChainId) -> Option<Shared<'_>> {
        let record = self.record(id)?;
        // Relaxed: only a first guess for the compare-and-swap below.
        let mut seen = ChainState::from_bits(record[0].load(Ordering::Relaxed));
        while let Some(entered) = seen.add_reader() {
            // Acquire pairs with the Release in `Exclusive::leave`: the bytes the last holder
            // wrote are seen.
            match record[0].compare_exchange_weak(
                seen.bits(),
                entered.bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Shared::new(self, id, record, seen.tag())),
                Err(now) => seen = ChainState::from_bits(now),
            }
        }
        None
    }

    /// Takes the chain exclusively. Returns `None` when a guard exists. Never waits.
    #[must_use]
    pub fn try_exclusive(&self, id: ChainId) -> Option<Exclusive<'_>> {
        let record = self.record(id)?;
        // Relaxed: only a first guess for the compare-and-swap below.
        let mut seen = ChainState::from_bits(record[0].load(Ordering::Relaxed));
        while let Some(closed) = seen.set_exclusive() {
            // Acquire pairs with the Release of every guard that left: its reads are over and its
            // writes are seen.
            match record[0].compare_exchange_weak(
                seen.bits(),
                closed.bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Exclusive::new(self, id, record)),
                Err(now) => seen = ChainState::from_bits(now),
            }
        }
        None
    }
}

/// Why no chain was created. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CreateError {
    /// All numbers of its kind are taken.
    #[error("all chain numbers are taken")]
    Numbers,
    /// The zone has no memory for its record.
    #[error(transparent)]
    Memory(#[from] AllocError),
}

impl From<AllocIdError<AllocError>> for CreateError {
    fn from(error: AllocIdError<AllocError>) -> Self {
        match error {
            AllocIdError::Exhausted => Self::Numbers,
            AllocIdError::Refused(error) => Self::Memory(error),
        }
    }
}
