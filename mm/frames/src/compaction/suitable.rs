//! Whether a compaction for a block is worth an attempt.

use crate::units::Order;
use crate::zone::{Watermarks, Zone};

/// Returns whether enough frames are free to expect a block of this order: the min watermark,
/// the block, and as many again to move content to.
///
/// Reserved frames count as free here: content may move there, since a frame in flight counts
/// against no limit. The capture itself refuses a block that the reservations leave no room
/// for.
pub(super) fn is_suitable(zone: &Zone, order: Order) -> bool {
    let free = zone.allocator().with_buddy(|buddy, _| {
        let usable = zone.allocator().usable(buddy);
        (usable, usable.0.saturating_sub(buddy.ledger.charged()))
    });
    free.is_some_and(|(usable, free)| {
        free >= Watermarks::of(usable).min.0 + 2 * u64::from(order.frames())
    })
}
