//! A minimal owner of chains, which forwards its callbacks to them. For integration tests, unit
//! tests and model checkers.

use std::sync::{Arc, Weak};

use frames::{
    Backing, ChainId, ChainKind, Committed, FRAME_SIZE, FrameChains, LockedFrame, Lru,
    MigrateError, MigrateMode, MovableOps, Owner, OwnerWords, Reclaim, ReleaseStatus, Target, Zone,
};

/// An owner whose callbacks call its chains.
#[derive(Debug)]
pub(crate) struct Store {
    pub chains: FrameChains,
}

impl Store {
    /// Creates an owner without chains, of at most `limit` of each kind.
    pub(crate) fn new(owner: Owner, limit: usize) -> Arc<Self> {
        let chains = FrameChains::new(owner, limit, OwnerWords::default(), Backing::Heap)
            .expect("small tables");
        let store = Arc::new(Self { chains });
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&store) as _;
        store.chains.publish(ops);
        store
    }

    /// Returns the zone of the chains.
    pub(crate) fn zone(&self) -> &Zone {
        self.chains.zone()
    }

    /// Returns the owner's LRU lists.
    pub(crate) fn lru(&self) -> Lru<'_> {
        self.chains.lru().expect("its owner was registered with lists")
    }

    /// Creates a chain with `frames` frames, each filled with `byte`.
    pub(crate) fn filled(&self, kind: ChainKind, frames: usize, byte: u8) -> ChainId {
        let mut fresh = self.chains.create(kind, 1).expect("a number");
        for at in 0..frames {
            fresh.attach(at, Reclaim::NotAllowed).expect("room");
            fresh
                .pieces_mut(at * FRAME_SIZE..(at + 1) * FRAME_SIZE)
                .expect("attached")
                .0
                .fill(byte);
        }
        let id = fresh.id();
        assert_eq!(fresh.release(), ReleaseStatus::Clean);
        id
    }

    /// Checks that every byte of a chain is as it was written.
    pub(crate) fn assert_filled(&self, id: ChainId, frames: usize, byte: u8) {
        let shared = self.chains.share(id).expect("live");
        for at in 0..frames {
            let (bytes, _) =
                shared.pieces(at * FRAME_SIZE..(at + 1) * FRAME_SIZE).expect("attached");
            assert!(bytes.iter().all(|&found| found == byte), "frame {at} of {id:?} is damaged");
        }
        self.left(id, shared.release());
    }

    /// Destroys a chain now, or when the last holder leaves.
    pub(crate) fn end(&self, id: ChainId) {
        loop {
            if let Some(held) = self.chains.try_exclusive(id) {
                return held.destroy();
            }
            if self.chains.tag(id).is_none() || self.chains.mark_pending(id) {
                return;
            }
        }
    }

    /// Does the pending work that a guard returned: here it always destroys the chain.
    pub(crate) fn left(&self, id: ChainId, leaving: ReleaseStatus) {
        if leaving == ReleaseStatus::Pending {
            self.end(id);
        }
    }
}

impl MovableOps for Store {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.chains.can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let moved = self.chains.migrate_frame(from, to);
        if let Some((id, leaving)) = moved.released {
            self.left(id, leaving);
        }
        moved.result
    }

    fn putback(&self, _: &LockedFrame<'_>) {}
}
