//! Allocation of blocks when free memory is below the point where a block is promised: how often it
//! succeeds all the same, and how many pages must be evicted where it does not.

use std::sync::Arc;

use anyhow::Result;
use fastrand::Rng;
use frames::{Block, Frame, FrameCount, MigrateType, NoLocksHeld, Order, Reclaim, Zone};

use super::choice;
use super::disk::Disk;

/// Number of blocks to allocate.
pub(super) const BLOCKS: u64 = 8;
/// Number of pages to evict before the next attempt.
const EVICT_BATCH: usize = 32;
/// Maximum number of pages to evict for one block.
const MAX_EVICTED: u64 = 2048;

/// Result of the measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scarce {
    /// Free frames at the start.
    pub(super) free: u64,
    /// Blocks allocated without an eviction.
    pub(super) at_once: u64,
    /// Blocks allocated in the end.
    pub(super) successes: u64,
    /// Pages evicted, also for blocks that were not allocated.
    pub(super) evicted: u64,
}

/// Returns the free frames that promise a block: twice its frames plus the lowest watermark.
pub(super) fn free_frames_needed(zone: &Zone, order: Order) -> FrameCount {
    FrameCount(zone.watermarks().min.0 + 2 * u64::from(order.frames()))
}

/// Returns the number of free frames of a zone, never used ones included.
pub(super) fn free_frames(zone: &Zone) -> FrameCount {
    let stats = zone.stats();
    FrameCount(stats.capacity.0 - stats.in_use.0)
}

/// Tries to allocate a block once.
pub(super) fn ask(zone: &Zone, order: Order) -> Option<Block<'_>> {
    zone.alloc_block(order, MigrateType::Unmovable, Reclaim::Allowed(NoLocksHeld::promise())).ok()
}

/// Allocates single frames until no block is promised, then tries to allocate blocks of `order`,
/// evicting random pages where that fails.
pub(super) fn measure(
    disk: &mut Disk<'_>,
    stored: usize,
    order: Order,
    seed: u64,
) -> Result<Scarce> {
    let zone = Arc::clone(disk.zram.zone());
    let _taken = exhaust_zone(&zone, free_frames_needed(&zone, order));
    let mut result = Scarce { free: free_frames(&zone).0, ..Scarce::default() };
    // Evict pages at random, each at most once.
    let mut rng = Rng::with_seed(seed.wrapping_add(1));
    let mut victims = choice::permutation(&mut rng, stored).into_iter();
    let mut blocks = Vec::new();
    for _ in 0..BLOCKS {
        // Evict in batches until the allocation succeeds.
        let before = result.evicted;
        loop {
            if let Some(block) = ask(&zone, order) {
                result.at_once += u64::from(result.evicted == before);
                blocks.push(block);
                break;
            }
            let most = EVICT_BATCH.min((before + MAX_EVICTED - result.evicted) as usize);
            let batch: Vec<usize> =
                victims.by_ref().filter(|&page| disk.holds(page)).take(most).collect();
            if batch.is_empty() {
                break;
            }
            result.evicted += batch.len() as u64;
            batch.into_iter().try_for_each(|page| disk.discard(page))?;
        }
    }
    result.successes = blocks.len() as u64;
    Ok(result)
}

/// Allocates single frames until fewer than `floor` are free.
fn exhaust_zone(zone: &Zone, floor: FrameCount) -> Vec<Frame<'_>> {
    let mut taken = Vec::new();
    while free_frames(zone) >= floor {
        match zone.alloc_frame(MigrateType::Unmovable, Reclaim::NotAllowed) {
            Ok(frame) => taken.push(frame),
            Err(_) => break,
        }
    }
    taken
}
