//! Compaction of one class: how a thread picks the next source and destination.

use std::ops::ControlFlow;

use frames::{ChainId, Deadline, Exclusive};

use crate::class::SizeClass;
use crate::class_state::ClassState;
use crate::pool::Pool;
use crate::stats::{Compaction, CompactionOutcome};
use crate::zspage::FullnessGroup;

/// Maximum objects moved per hold of the class lock: other threads may wait that long.
pub(super) const MAX_BATCH: usize = 16;
/// Maximum zspages compared in the emptiest group.
const SOURCE_SCAN_LIMIT: usize = 8;
/// Maximum destinations that may refuse before a batch ends.
const MAX_REFUSALS: usize = 8;

/// Compaction of one class by one thread.
pub(super) struct ClassCompaction<'a> {
    pub(super) pool: &'a Pool,
    pub(super) class: SizeClass,
    pub(super) deadline: Deadline,
    pub(super) report: &'a mut Compaction,
    pub(super) source: Option<SourceZspage>,
    pub(super) skipped: Vec<ChainId>,
}

/// The zspage that is being emptied, from its last object to its first.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceZspage {
    pub(super) chain: ChainId,
    /// The objects from this number on were visited.
    pub(super) below: u16,
}

/// Destinations that refused in this batch: busy ones, and those that need frames and get none.
#[derive(Default)]
pub(super) struct RefusedDestinations {
    // An array: nothing is allocated under the class lock.
    ids: [Option<ChainId>; MAX_REFUSALS],
    /// Whether one of them needed a frame.
    pub(super) lack_frames: bool,
}

impl RefusedDestinations {
    /// Adds a destination if there is room.
    pub(super) fn add(&mut self, chain: ChainId) {
        if let Some(free) = self.ids.iter_mut().find(|id| id.is_none()) {
            *free = Some(chain);
        }
    }

    /// Returns whether no destination refused.
    pub(super) fn is_empty(&self) -> bool {
        self.ids[0].is_none()
    }

    fn contains(&self, chain: ChainId) -> bool {
        self.ids.contains(&Some(chain))
    }

    fn is_full(&self) -> bool {
        self.ids.iter().all(Option::is_some)
    }
}

impl<'a> ClassCompaction<'a> {
    /// Skips a zspage for the rest of this compaction, which goes on.
    pub(super) fn skip_zspage(&mut self, chain: ChainId) -> ControlFlow<CompactionOutcome> {
        self.skipped.push(chain);
        self.source = None;
        ControlFlow::Continue(())
    }

    /// Skips a zspage like [`ClassCompaction::skip_zspage`], and counts it in the report.
    pub(super) fn skip_and_count(&mut self, chain: ChainId) -> ControlFlow<CompactionOutcome> {
        self.report.skipped += 1;
        self.skip_zspage(chain)
    }

    /// Picks the current source while it is partial, then the emptiest zspage (L-19).
    pub(super) fn pick_source(&self, state: &ClassState) -> Option<SourceZspage> {
        let current = self.source.filter(|source| self.is_partial(source.chain));
        current.or_else(|| {
            let mut groups = FullnessGroup::partial_fullest_first().rev();
            let chain = groups.find_map(|group| self.find_emptiest(state, group))?;
            Some(SourceZspage { chain, below: self.class.objects })
        })
    }

    /// Finds the emptiest zspage of a group that was not skipped, among the first few.
    fn find_emptiest(&self, state: &ClassState, group: FullnessGroup) -> Option<ChainId> {
        let list = state.lists()[group.index()].iter(&self.pool.zspages);
        let candidates = list.take(SOURCE_SCAN_LIMIT + self.skipped.len());
        let open = candidates.filter(|id| !self.skipped.contains(id)).take(SOURCE_SCAN_LIMIT);
        open.min_by_key(|&id| self.used(id))
    }

    /// Returns whether the zspage has live and free objects. The number may name a newer zspage
    /// by now, which is as good a source.
    fn is_partial(&self, chain: ChainId) -> bool {
        let head = self.pool.zspages.head(chain).filter(|head| head.class == self.class.index);
        head.is_some_and(|head| 0 < head.used && head.used < self.class.objects)
    }

    fn used(&self, chain: ChainId) -> u16 {
        self.pool.zspages.head(chain).map_or(0, |head| head.used)
    }

    /// Picks the fullest zspage with a free slot that is no emptier than the source, and takes it
    /// exclusively. Adds busy ones to `refused`.
    ///
    /// The condition makes full zspages only fuller, so no object returns to where it was (S-47).
    pub(super) fn pick_destination(
        &self,
        state: &ClassState,
        source: ChainId,
        refused: &mut RefusedDestinations,
    ) -> Option<Exclusive<'a>> {
        let zspages = &self.pool.zspages;
        let least = zspages.head(source)?.used;
        let emptiest = FullnessGroup::of(least, self.class.objects);
        for group in FullnessGroup::partial_fullest_first().take_while(|&group| group >= emptiest) {
            let candidates = state.lists()[group.index()].iter(zspages).take(2 * MAX_REFUSALS + 1);
            for chain in candidates.filter(|&id| id != source) {
                if refused.contains(chain) || self.used(chain) < least {
                    continue;
                }
                if refused.is_full() {
                    return None;
                }
                if let Some(held) = zspages.chains.try_exclusive(chain) {
                    zspages.prefetch_next(chain);
                    return Some(held);
                }
                refused.add(chain);
            }
        }
        None
    }
}
