//! The least an owner of extents is: it passes on what it is asked. For the tests in here, for unit tests, and under a model checker.

use std::sync::{Arc, Weak};

use frames::{
    Accepted, Backing, ExtentId, Extents, FRAME_SIZE, Leaving, Locked, Lru, Mode, MovableOps,
    Owner, OwnerWords, Reclaim, Refused, Shape, Target, Zone,
};

#[derive(Debug)]
pub struct Store {
    pub extents: Extents,
}

impl Store {
    /// No extents yet, at most `limit` of each shape.
    pub fn new(owner: Owner, limit: usize) -> Arc<Self> {
        let extents =
            Extents::new(owner, limit, OwnerWords::default(), Backing::Heap).expect("small tables");
        let store = Arc::new(Self { extents });
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&store) as _;
        store.extents.publish(ops);
        store
    }

    pub fn zone(&self) -> &Zone {
        self.extents.zone()
    }

    pub fn lru(&self) -> &Lru {
        self.extents.lru().expect("its owner was registered with lists")
    }

    /// A new extent with so many frames, each full of `byte`.
    pub fn filled(&self, shape: Shape, frames: usize, byte: u8) -> ExtentId {
        let mut fresh = self.extents.create(shape, 1).expect("a number");
        for at in 0..frames {
            fresh.attach(at, Reclaim::NotAllowed).expect("room");
            fresh
                .pieces_mut(at * FRAME_SIZE..(at + 1) * FRAME_SIZE)
                .expect("attached")
                .0
                .fill(byte);
        }
        let id = fresh.id();
        assert_eq!(fresh.release(), Leaving::Quiet);
        id
    }

    /// Fails unless every byte of an extent is as it was written.
    pub fn assert_filled(&self, id: ExtentId, frames: usize, byte: u8) {
        let shared = self.extents.share(id).expect("live");
        for at in 0..frames {
            let (bytes, _) =
                shared.pieces(at * FRAME_SIZE..(at + 1) * FRAME_SIZE).expect("attached");
            assert!(bytes.iter().all(|&found| found == byte), "frame {at} of {id:?} is damaged");
        }
        self.left(id, shared.release());
    }

    /// Ends an extent, now or when whoever is inside leaves.
    pub fn end(&self, id: ExtentId) {
        loop {
            if let Some(held) = self.extents.try_exclusive(id) {
                return held.destroy();
            }
            if self.extents.tag(id).is_none() || self.extents.mark_pending(id) {
                return;
            }
        }
    }

    /// Does the work a guard was told of: here it is always the end of the extent.
    pub fn left(&self, id: ExtentId, leaving: Leaving) {
        if leaving == Leaving::Pending {
            self.end(id);
        }
    }
}

impl MovableOps for Store {
    fn isolate(&self, frame: &Locked<'_>) -> bool {
        self.extents.can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &Locked<'_>,
        to: Target<'z>,
        _: Mode,
    ) -> Result<Accepted, Refused<'z>> {
        let moved = self.extents.migrate_frame(from, to);
        if let Some((id, leaving)) = moved.left {
            self.left(id, leaving);
        }
        moved.result
    }

    fn putback(&self, _: &Locked<'_>) {}

    fn lru(&self) -> Option<&Lru> {
        self.extents.lru()
    }
}
