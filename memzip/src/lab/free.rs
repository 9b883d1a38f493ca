//! Free memory of a zone by the size of its blocks.

use frames::{Order, PAGEBLOCK_FRAMES, Zone};

/// Number of orders in `/proc/buddyinfo`.
pub(super) const ORDERS: usize = 11;

/// Free blocks by order, and the frames in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Free {
    /// Number of free blocks of 4 KiB << order.
    pub(super) blocks: [u64; ORDERS],
    /// Number of frames that have an owner.
    pub(super) in_use: u64,
}

impl Free {
    /// Creates a value from blocks alone, as in the original's tables.
    pub(super) const fn of_blocks(blocks: [u64; ORDERS]) -> Self {
        Self { blocks, in_use: 0 }
    }

    /// Reads an idle zone. Pageblocks that were never used count as free blocks, too, although
    /// `buddyinfo` does not contain them.
    pub(super) fn of_zone(zone: &Zone) -> Self {
        // Frames on per-CPU lists are free but in no block.
        zone.drain();
        let (stats, info) = (zone.stats(), zone.buddyinfo());
        let mut blocks = std::array::from_fn(|order| {
            u8::try_from(order).ok().and_then(Order::new).map_or(0, |order| info.blocks(order))
        });
        let [first, end] =
            [stats.online.0, stats.capacity.0].map(|frames| frames / u64::from(PAGEBLOCK_FRAMES));
        // A first pageblock with an odd number is the second half of a block whose first half is in
        // use or counted already.
        let pairs = (end / 2).saturating_sub(first.div_ceil(2));
        blocks[ORDERS - 1] += pairs;
        blocks[ORDERS - 2] += end - first - 2 * pairs;
        blocks[0] += stats.cached.0;
        Self { blocks, in_use: stats.in_use.0 }
    }

    /// Returns the number of free frames in blocks of at least this order.
    pub(super) fn frames_from(&self, order: usize) -> u64 {
        self.blocks.iter().enumerate().skip(order).map(|(order, blocks)| blocks << order).sum()
    }

    /// Returns the number of free frames.
    pub(super) fn frames(&self) -> u64 {
        self.frames_from(0)
    }

    /// Returns the share of free memory in blocks of at least this order, if any memory is free.
    pub(super) fn share_from(&self, order: usize) -> Option<f64> {
        (self.frames() > 0).then(|| self.frames_from(order) as f64 / self.frames() as f64)
    }

    /// Returns the highest order with a free block.
    pub(super) fn highest(&self) -> Option<usize> {
        self.blocks.iter().rposition(|&blocks| blocks > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frames::{FrameCount, MigrateType, Reclaim, ZoneConfig};

    #[test]
    fn every_frame_of_a_zone_is_free_or_in_use() {
        let config = ZoneConfig { capacity: FrameCount(5 * 512), ..ZoneConfig::default() };
        let zone = Zone::new(config).expect("a small zone");
        assert_eq!(Free::of_zone(&zone).blocks, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        let one = zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("a frame");
        let free = Free::of_zone(&zone);
        assert_eq!((free.in_use, free.frames()), (1, 5 * 512 - 1));
        assert_eq!(free.blocks, [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1]);
        assert_eq!(free.frames_from(9), 4 * 512);
        drop(one);
        assert_eq!((Free::of_zone(&zone).in_use, Free::of_zone(&zone).frames()), (0, 5 * 512));
    }

    #[test]
    fn shares_count_frames_not_blocks() {
        let free = Free::of_blocks([16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            (free.share_from(4), free.share_from(0), free.share_from(5)),
            (Some(0.5), Some(1.0), Some(0.0))
        );
        assert_eq!((free.highest(), Free::default().highest()), (Some(4), None));
        assert_eq!(Free::default().share_from(0), None);
    }
}
