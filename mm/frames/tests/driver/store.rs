//! An owner of frames with bytes: extents of one frame, each filled with its own number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use frames::{
    Accepted, AllocError, Backing, ExtentId, Extents, FRAME_SIZE, FrameCount, Locked, Mode, MovableOps, OwnerWords,
    Reclaim, Refused, Shape, Target, Zone,
};

#[derive(Debug)]
pub struct Store {
    pub extents: Extents,
    tags: Mutex<BTreeMap<u32, ExtentId>>,
}

impl Store {
    pub fn new(zone: &Arc<Zone>, limit: usize, backing: Backing) -> Arc<Self> {
        let owner = zone.reserve_owner().expect("a number");
        let extents = Extents::new(owner, limit, OwnerWords::default(), backing).expect("small tables");
        let store = Arc::new(Self { extents, tags: Mutex::default() });
        let ops: Weak<dyn MovableOps> = Arc::downgrade(&store) as _;
        store.extents.publish(ops);
        store
    }

    fn tags(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, ExtentId>> {
        self.tags.lock().expect("no panic while it is held")
    }

    pub fn take(&self, tag: u32) -> Result<(), AllocError> {
        let mut fresh = self.extents.create(Shape::Single, 7).expect("numbers are left");
        if let Err(error) = fresh.attach(0, Reclaim::NotAllowed) {
            fresh.destroy();
            return Err(error);
        }
        for word in fresh.pieces_mut(0..FRAME_SIZE).expect("attached").0.chunks_exact_mut(4) {
            word.copy_from_slice(&tag.to_le_bytes());
        }
        let id = fresh.id();
        drop(fresh);
        self.tags().insert(tag, id);
        Ok(())
    }

    pub fn let_go(&self, tag: u32) {
        let id = self.tags().remove(&tag).expect("a tag it has");
        self.extents.try_exclusive(id).expect("nobody is inside").destroy();
    }

    pub fn frames(&self) -> FrameCount {
        FrameCount(self.tags().len() as u64)
    }

    pub fn all_tags(&self) -> Vec<u32> {
        self.tags().keys().copied().collect()
    }

    /// Fails unless every byte is as it was written.
    pub fn check(&self) {
        for (tag, &id) in &*self.tags() {
            let shared = self.extents.share(id).expect("live");
            let (bytes, _) = shared.pieces(0..FRAME_SIZE).expect("attached");
            assert!(bytes.chunks_exact(4).all(|word| word == tag.to_le_bytes()), "content of {tag} is damaged");
        }
    }
}

impl MovableOps for Store {
    fn isolate(&self, frame: &Locked<'_>) -> bool {
        self.extents.can_isolate(frame)
    }

    fn migrate<'z>(&self, from: &Locked<'_>, to: Target<'z>, _: Mode) -> Result<Accepted, Refused<'z>> {
        self.extents.migrate_frame(from, to).result
    }

    fn putback(&self, _: &Locked<'_>) {}
}
