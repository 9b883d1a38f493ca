//! Skip hints: pageblocks in which compaction found nothing to move.

use crate::units::BlockIndex;
use crate::zone::Zone;

/// Sets the hint of a pageblock.
pub(super) fn set(zone: &Zone, block: BlockIndex) {
    zone.allocator().with_buddy(|_, tables| tables.skip.insert(block));
}

/// Clears all hints. Holds the zone lock in short turns.
pub(super) fn reset(zone: &Zone) {
    while zone.allocator().with_buddy(|_, tables| tables.skip.remove_lowest()) == Some(true) {}
}
