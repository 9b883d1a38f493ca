//! An owner of frames with bytes: chains of one frame, each filled with its own tag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use frames::{AllocError, ChainId, ChainKind, FRAME_SIZE, FrameCount, Reclaim, Zone};

use crate::store::Store;

/// A store of one-frame chains, by tag.
#[derive(Debug)]
pub(crate) struct Tagged {
    store: Arc<Store>,
    tags: Mutex<BTreeMap<u32, ChainId>>,
}

impl Tagged {
    /// Creates an empty store of at most `limit` chains.
    pub(crate) fn new(zone: &Arc<Zone>, limit: usize) -> Self {
        Self {
            store: Store::new(zone.reserve_owner().expect("a number"), limit),
            tags: Mutex::default(),
        }
    }

    fn tags(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, ChainId>> {
        self.tags.lock().expect("no panic while it is held")
    }

    /// Creates a chain that is filled with `tag`.
    pub(crate) fn take(&self, tag: u32) -> Result<(), AllocError> {
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

    /// Destroys the chain of a tag.
    pub(crate) fn release(&self, tag: u32) {
        let id = self.tags().remove(&tag).expect("a tag it has");
        self.store.chains.try_exclusive(id).expect("idle").destroy();
    }

    /// Returns the number of chains.
    pub(crate) fn frames(&self) -> FrameCount {
        FrameCount(self.tags().len() as u64)
    }

    /// Returns the tags of all chains, ascending.
    pub(crate) fn all_tags(&self) -> Vec<u32> {
        self.tags().keys().copied().collect()
    }

    /// Checks that every byte is as it was written.
    pub(crate) fn check(&self) {
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
