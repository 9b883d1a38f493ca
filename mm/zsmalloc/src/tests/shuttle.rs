//! Pools under shuttle: random schedules of several threads, with the real code and geometry.

mod pool;
mod system;

use std::sync::Arc;

use frames::{MigrateType, Order, Reclaim, Zone};
use sync::atomic::{AtomicU64, Ordering};
use sync::thread;
use sys::Backing;

use super::pool_in;
use crate::{AccessError, AllocError, Handle, Pool, PoolConfig};

fn zone() -> Arc<Zone> {
    super::zone(1024, Backing::AnonymousSmall)
}

fn small_pool(zone: &Arc<Zone>) -> Arc<Pool> {
    pool_in(zone, PoolConfig { max_objects: Some(64), ..PoolConfig::default() })
}

/// A pool with an object for each of some slots, like a block device. Threads store, read and free
/// them at once.
struct Slots {
    pool: Arc<Pool>,
    /// Bits of each slot's handle; 0 for none.
    handles: Vec<AtomicU64>,
    /// Lengths of the objects.
    lens: [usize; 4],
}

impl Slots {
    /// Builds `count` empty slots.
    fn new(pool: Arc<Pool>, count: usize, lens: [usize; 4]) -> Self {
        Self { pool, handles: (0..count).map(|_| AtomicU64::new(0)).collect(), lens }
    }

    /// Returns a tag that names the slot of its object.
    fn tag_for(slot: usize, number: u64) -> u64 {
        (slot as u64) << 48 | number
    }

    /// Returns the bytes of the object with this tag.
    fn tagged(&self, tag: u64) -> Vec<u8> {
        let len = self.lens[tag as usize % 4];
        tag.to_le_bytes().into_iter().cycle().take(len).collect()
    }

    /// Returns whether these are the bytes of an object that was stored for `slot`.
    fn belongs_to(&self, slot: usize, bytes: &[u8]) -> bool {
        let tag = bytes.first_chunk().map(|tag| u64::from_le_bytes(*tag));
        tag.is_some_and(|tag| tag >> 48 == slot as u64 && bytes == self.tagged(tag))
    }

    /// Stores an object for each slot in the second pageblock and leaves the first one free, so
    /// that frame compaction can move them.
    fn fill_high(&self) {
        let zone = self.pool.zone();
        let low = zone.alloc_block(Order::PAGEBLOCK, MigrateType::Movable, Reclaim::NotAllowed);
        for slot in 0..self.handles.len() {
            let handle = self.pool.store(&self.tagged(Self::tag_for(slot, slot as u64)));
            self.handles[slot].store(handle.expect("room").to_bits(), Ordering::Release);
        }
        drop(low.expect("an empty zone"));
    }

    /// Stores a new object over the slot's old one, unless the limit is reached.
    fn overwrite(&self, slot: usize, number: u64) {
        match self.pool.store(&self.tagged(Self::tag_for(slot, number))) {
            Ok(new) => self.free(self.handles[slot].swap(new.to_bits(), Ordering::AcqRel)),
            Err(error) => assert_eq!(error, AllocError::Limit),
        }
    }

    /// Reads the slot's object twice.
    fn read(&self, slot: usize) {
        let bits = self.handles[slot].load(Ordering::Acquire);
        if bits == 0 {
            return;
        }
        match self.pool.read(Handle::from_bits(bits)) {
            Ok(object) => {
                assert!(self.belongs_to(slot, &object.to_vec()));
                thread::yield_now();
                assert!(self.belongs_to(slot, &object.to_vec()), "a reader's bytes stay unchanged");
            }
            Err(error) => assert_eq!(error, AccessError::Stale),
        }
    }

    fn free(&self, bits: u64) {
        if bits != 0 {
            self.pool.free(Handle::from_bits(bits)).expect("swapped out once, so freed once");
        }
    }

    /// Frees the objects of all slots. No other thread uses them any more.
    fn free_all(&self) {
        self.handles.iter().for_each(|slot| self.free(slot.load(Ordering::Acquire)));
    }
}
