//! What it costs to clear a range: the frames that have to move.

use crate::buddy::CommitState;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::page::Kind;
use crate::units::{BlockIndex, Order};
use crate::zone::Zone;

/// Returns, for each range of this order in a pageblock or a pair of them, how many frames
/// have to move; `None` where a frame cannot.
pub(super) fn range_costs(zone: &Zone, block: BlockIndex, order: Order) -> Vec<Option<u32>> {
    if order <= Order::PAGEBLOCK {
        return costs(zone, block, order);
    }
    let halves =
        [block, BlockIndex(block.0 + 1)].map(|half| costs(zone, half, Order::PAGEBLOCK)[0]);
    vec![halves.into_iter().sum()]
}

/// Returns the same for orders up to that of a pageblock.
pub(super) fn costs(zone: &Zone, block: BlockIndex, order: Order) -> Vec<Option<u32>> {
    // A pageblock that is isolated or being released cannot be captured.
    let mut costs = vec![Some(0); (PAGEBLOCK_FRAMES >> order.get()) as usize];
    let block_state = zone.tables().blocks.state(block);
    if block_state.isolated || block_state.commit_state == CommitState::Releasing {
        costs.fill(None);
    }
    let mut offset =
        if block_state.commit_state == CommitState::Committed { 0 } else { PAGEBLOCK_FRAMES };
    while offset < PAGEBLOCK_FRAMES {
        let pfn = block.first().plus(offset);
        let state = zone.tables().frames.state(pfn);
        let whole = state.order().unwrap_or(Order::SINGLE);
        let cost = match state.kind() {
            Some(Kind::Free) => Some(0),
            // The upper half of a free pair.
            _ if zone.tables().blocks.is_free(pfn) => Some(0),
            Some(Kind::Cached) => Some(1),
            Some(Kind::Used)
                if whole == Order::SINGLE && zone.can_move(state) && !state.is_locked() =>
            {
                Some(1)
            }
            _ => None,
        };
        // Add the cost to every range that the frame or block overlaps.
        let end = (offset + whole.frames()).min(PAGEBLOCK_FRAMES);
        for range in
            &mut costs[(offset >> order.get()) as usize..=((end - 1) >> order.get()) as usize]
        {
            *range = range.zip(cost).map(|(sum, cost)| sum + cost);
        }
        offset = end;
    }
    costs
}
