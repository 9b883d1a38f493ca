//! An owner of frames with bytes: chains of one frame, each filled with its own tag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use frames::{AllocError, ChainId, ChainKind, FRAME_SIZE, FrameCount, Reclaim, Zone};

use crate::store::Store;

#[derive(Debug)]
pub struct Tagged {
    store: Arc<Store>,
    tags: Mutex<BTreeMap<u32, ChainId>>,
}

impl Tagged {
    pub fn new(zone: &Arc<Zone>, limit: usize) -> Self {
        Self {
            store: Store::new(zone.reserve_owner().expect("a number"), limit),
            tags: Mutex::default(),
        }
    }

    fn tags(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, ChainId>> {
        self.tags.lock().expect("no panic while it is held")
    }

    pub fn take(&self, tag: u32) -> Result<(), AllocError> {
        let mut fresh = self.store.chains.create(ChainKind::Single, 7).expect("numbers are left");
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
        self.store.chains.try_exclusive(id).expect("nobody is inside").destroy();
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
            let shared = self.store.chains.share(id).expect("live");
            let (bytes, _) = shared.pieces(0..FRAME_SIZE).expect("attached");
            assert!(
                bytes.chunks_exact(4).all(|word| word == tag.to_le_bytes()),
                "content of {tag} is damaged"
            );
        }
    }
}
