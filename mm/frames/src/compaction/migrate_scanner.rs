//! The migrate scanner: movable frames in use, from the highest pageblock down.

use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::Isolated;
use crate::pageblock::CommitState;
use crate::state::Kind;
use crate::units::{BlockIndex, Order};
use crate::zone::Zone;

/// How far a pass over the zone is: a compaction in slices goes on here (the kernel's `compact_cached_migrate_pfn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanPosition {
    block: BlockIndex,
    /// The first of its frames that was not looked at.
    offset: u32,
}

/// The scan.
#[derive(Debug)]
pub(super) struct MigrateScanner<'z> {
    zone: &'z Zone,
    at: ScanPosition,
    scanned: u64,
    hints: SkipHints,
    /// Whether nothing could be isolated yet in the pageblock it stands in.
    nothing_isolated: bool,
}

/// Whether pageblocks that had nothing to move are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SkipHints {
    Respect,
    Ignore,
}

impl<'z> MigrateScanner<'z> {
    /// Starts where an earlier slice of the same pass stopped, or at the top.
    pub(super) fn new(zone: &'z Zone, hints: SkipHints, from: Option<ScanPosition>) -> Self {
        let top =
            || ScanPosition { block: BlockIndex(zone.online_blocks()), offset: PAGEBLOCK_FRAMES };
        // The part of a pageblock that an earlier slice looked at may have had something to move, so this one does not mark it.
        Self { zone, at: from.unwrap_or_else(top), scanned: 0, hints, nothing_isolated: false }
    }

    /// Where it stands.
    pub(super) fn position(&self) -> ScanPosition {
        self.at
    }

    /// The pageblock it stands in.
    pub(super) fn block(&self) -> BlockIndex {
        self.at.block
    }

    /// Frames looked at.
    pub(super) fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Isolates the next frames of the pageblock that can be, at most `most`; none when that is at
    /// its end. `false` when there is no pageblock left. It looks at one pageblock at a time, so that
    /// its caller can look at the clock.
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

    /// Looks at one frame, or passes over a block of several at once.
    fn scan_frame(&mut self, batch: &mut Vec<Isolated<'z>>) {
        let pfn = self.at.block.first().plus(self.at.offset);
        let state = self.zone.tables.frames.state(pfn);
        let frames = match (state.kind(), state.order()) {
            (Some(Kind::Free | Kind::Used), Some(order)) => order.frames(),
            _ => 1,
        };
        self.at.offset += frames;
        self.scanned += 1;
        if state.kind() == Some(Kind::Used) && state.order() == Some(Order::SINGLE) {
            batch.extend(self.zone.isolate(pfn));
        }
    }

    /// Goes on to the next lower pageblock that has something in use, past all that have not; the sets are a hint, and the frames are looked at again.
    fn next_block(&mut self) -> bool {
        if self.nothing_isolated {
            self.zone.set_skip_hint(self.at.block);
        }
        let tables = &self.zone.tables;
        let skip = (self.hints == SkipHints::Respect).then_some(&tables.skip);
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
