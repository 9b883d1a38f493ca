//! What it costs to clear a range: the frames that have to move.

use crate::geometry::PAGEBLOCK_FRAMES;
use crate::page::Kind;
use crate::units::{BlockIndex, Order, Pfn};
use crate::zone::Zone;

/// Returns how many frames have to move out of each range of this order in a pageblock or a pair
/// of them, and the range's first frame. A range with a frame that cannot move is left out.
pub(super) fn range_costs(zone: &Zone, block: BlockIndex, order: Order) -> Vec<(u32, Pfn)> {
    if order <= Order::PAGEBLOCK {
        return costs(zone, block, order);
    }
    let half = |block| costs(zone, block, Order::PAGEBLOCK).pop();
    let pair = half(block).zip(half(BlockIndex(block.0 + 1)));
    pair.map(|((one, first), (other, _))| (one + other, first)).into_iter().collect()
}

/// Returns the same for orders up to that of a pageblock.
pub(super) fn costs(zone: &Zone, block: BlockIndex, order: Order) -> Vec<(u32, Pfn)> {
    let tables = zone.tables();
    let Some(in_use) = tables.blocks.state(block).in_use() else { return Vec::new() };
    let mut costs = vec![Some(0); (PAGEBLOCK_FRAMES >> order.get()) as usize];
    // A pageblock without frames in use needs no scan.
    let mut offset = if in_use > 0 { 0 } else { PAGEBLOCK_FRAMES };
    while offset < PAGEBLOCK_FRAMES {
        let pfn = block.first().plus(offset);
        let state = tables.frames.state(pfn);
        let whole = state.order().unwrap_or(Order::SINGLE);
        let is_movable = whole == Order::SINGLE && zone.can_move(state) && !state.is_locked();
        let cost = match state.kind() {
            Some(Kind::Free) => Some(0),
            // The upper half of a free pair.
            _ if tables.blocks.is_free(pfn) => Some(0),
            Some(Kind::Cached) => Some(1),
            Some(Kind::Used) if is_movable => Some(1),
            _ => None,
        };
        // Add the cost to every range that the frame or block overlaps.
        let end = (offset + whole.frames()).min(PAGEBLOCK_FRAMES);
        let ranges = (offset >> order.get()) as usize..=((end - 1) >> order.get()) as usize;
        for range in &mut costs[ranges] {
            *range = range.zip(cost).map(|(sum, cost)| sum + cost);
        }
        offset = end;
    }
    let firsts = (0..).map(|at: u32| block.first().plus(at * order.frames()));
    costs.into_iter().zip(firsts).filter_map(|(cost, first)| Some((cost?, first))).collect()
}
