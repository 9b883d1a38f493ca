//! Blocks asked for when there is too little free memory to be promised one: how often it is had
//! all the same, and how many pages must be evicted where it is not.

use std::sync::Arc;

use anyhow::Result;
use frames::{Block, Frame, FrameCount, MigrateType, NoLocksHeld, Order, Reclaim, Zone};

use super::disk::Disk;
use super::rng::Rng;

/// Blocks asked for.
const BLOCKS: u64 = 8;
/// Pages evicted before the block is asked for again.
const EVICT_BATCH: usize = 32;
/// Pages evicted for one block, at most.
const MAX_EVICTED: usize = 2048;

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scarce {
    /// Free frames when it began.
    pub(super) free: u64,
    pub(super) asked: u64,
    /// Blocks had without evicting anything.
    pub(super) at_once: u64,
    /// Blocks had in the end.
    pub(super) successes: u64,
    /// Pages evicted, those for nothing included.
    pub(super) evicted: u64,
}

impl Scarce {
    /// Returns the share of requests that needed no eviction.
    pub(super) fn rate(self) -> Option<f64> {
        (self.asked > 0).then(|| self.at_once as f64 / self.asked as f64)
    }

    /// Returns pages evicted for each block had.
    pub(super) fn evicted_for_each(self) -> Option<f64> {
        (self.successes > 0).then(|| self.evicted as f64 / self.successes as f64)
    }
}

/// Returns the free frames below which no block of this order is promised: twice its frames, and
/// the lowest watermark.
pub(super) fn free_frames_needed(zone: &Zone, order: Order) -> FrameCount {
    FrameCount(zone.watermarks().min.0 + 2 * u64::from(order.frames()))
}

/// Returns the free frames of a zone, those it never used included.
pub(super) fn free_frames(zone: &Zone) -> FrameCount {
    let stats = zone.stats();
    FrameCount(stats.capacity.0 - stats.in_use.0)
}

/// Asks once.
pub(super) fn ask(zone: &Zone, order: Order) -> Option<Block<'_>> {
    zone.alloc_block(order, MigrateType::Unmovable, Reclaim::Allowed(NoLocksHeld::promise())).ok()
}

/// Takes single frames until no block is promised, then asks for some.
pub(super) fn measure(
    disk: &mut Disk<'_>,
    stored: usize,
    order: Order,
    seed: u64,
) -> Result<Scarce> {
    let zone = Arc::clone(disk.zram.zone());
    let _taken = exhaust_zone(&zone, free_frames_needed(&zone, order));
    let mut result = Scarce { free: free_frames(&zone).0, ..Scarce::default() };
    let order_of_eviction = Rng::new(seed.wrapping_add(1)).permutation(stored);
    let mut victims = order_of_eviction.into_iter();
    let mut blocks = Vec::new();
    while result.asked < BLOCKS {
        result.asked += 1;
        if let Some(block) = ask(&zone, order) {
            result.at_once += 1;
            blocks.push(block);
            continue;
        }
        let mut evicted = 0;
        while evicted < MAX_EVICTED {
            let mut progress = false;
            for page in victims
                .by_ref()
                .filter(|&page| disk.holds(page))
                .take(EVICT_BATCH)
                .collect::<Vec<_>>()
            {
                disk.discard(page)?;
                evicted += 1;
                progress = true;
            }
            if let Some(block) = ask(&zone, order) {
                blocks.push(block);
                break;
            }
            if !progress {
                break;
            }
        }
        result.evicted += evicted as u64;
    }
    result.successes = blocks.len() as u64;
    Ok(result)
}

/// Single frames, until fewer than `floor` are free.
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
