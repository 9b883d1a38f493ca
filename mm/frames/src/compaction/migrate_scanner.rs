//! The migrate scanner: isolates movable frames, from the highest pageblock down.

use super::request::CompactGoal;
use super::skip;
use crate::buddy::CommitState;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::Isolated;
use crate::page::Kind;
use crate::units::{BlockIndex, Order};
use crate::zone::{ScanPosition, Zone};

/// A scan from a position down.
#[derive(Debug)]
pub(super) struct MigrateScanner<'z> {
    zone: &'z Zone,
    pub(super) at: ScanPosition,
    /// The number of frames scanned.
    pub(super) scanned: u64,
    /// A scan for the whole zone ignores skip hints.
    goal: CompactGoal,
    /// Whether nothing has been isolated so far in the current pageblock.
    nothing_isolated: bool,
}

impl<'z> MigrateScanner<'z> {
    /// Starts where an earlier slice of the same pass stopped, or at the top.
    pub(super) fn new(zone: &'z Zone, goal: CompactGoal, from: Option<ScanPosition>) -> Self {
        let top = || ScanPosition {
            block: BlockIndex(zone.allocator().read_buddy(|buddy| buddy.online)),
            offset: PAGEBLOCK_FRAMES,
        };
        // An earlier slice may have isolated frames in its part of the pageblock, so this slice
        // sets no skip hint for it.
        Self { zone, at: from.unwrap_or_else(top), scanned: 0, goal, nothing_isolated: false }
    }

    /// Isolates the next movable frames of the current pageblock, at most `most`; none at its end,
    /// so that the caller can check the deadline. Returns `false` when no pageblock is left.
    pub(super) fn isolate(&mut self, batch: &mut Vec<Isolated<'z>>, most: usize) -> bool {
        while self.at.offset < PAGEBLOCK_FRAMES && batch.len() < most {
            self.scan_frame(batch);
        }
        if batch.is_empty() {
            return self.next_block();
        }
        self.nothing_isolated = false;
        true
    }

    /// Scans one frame, or skips a block of several at once.
    fn scan_frame(&mut self, batch: &mut Vec<Isolated<'z>>) {
        let pfn = self.at.block.first().plus(self.at.offset);
        let state = self.zone.tables().frames.state(pfn);
        let whole = match (state.kind(), state.order()) {
            (Some(Kind::Free | Kind::Used), Some(order)) => order,
            _ => Order::SINGLE,
        };
        self.at.offset += whole.frames();
        self.scanned += 1;
        if state.kind() == Some(Kind::Used) && whole == Order::SINGLE {
            batch.extend(self.zone.isolate(pfn));
        }
    }

    /// Moves to the next lower pageblock with a frame in use, by a hint: frames are checked again.
    fn next_block(&mut self) -> bool {
        if self.nothing_isolated {
            skip::set(self.zone, self.at.block);
        }
        let tables = self.zone.tables();
        let skip = (self.goal != CompactGoal::WholeZone).then_some(&tables.skip);
        while let Some(block) = tables.in_use.highest_below(self.at.block.0, skip) {
            self.at = ScanPosition { block, offset: 0 };
            let block_state = tables.blocks.state(block);
            if block_state.commit_state == CommitState::Committed && !block_state.isolated {
                self.nothing_isolated = true;
                return true;
            }
        }
        self.at.block = BlockIndex(0);
        self.nothing_isolated = false;
        false
    }
}
