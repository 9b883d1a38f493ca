//! Compaction of one class: what a thread knows about it, and how it picks the next source and
//! destination.

use frames::{ChainId, Deadline, Exclusive};

use crate::class::SizeClass;
use crate::class_state::ClassState;
use crate::fullness::FullnessGroup;
use crate::pool::Pool;
use crate::stats::Compaction;

/// Maximum objects moved per hold of the class lock, and per hold of a destination: other threads
/// may wait that long.
pub(super) const MAX_BATCH: usize = 16;
/// Maximum zspages compared in the emptiest group.
const SOURCE_SCAN_LIMIT: usize = 8;
/// Maximum destinations that may refuse before a batch ends.
const MAX_REFUSALS: usize = 8;

/// Outcome of one hold of the class lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchOutcome {
    /// More objects may be movable.
    Continue,
    /// Nothing is left to gain.
    Finished,
    /// The budget is used up.
    OutOfTime,
}

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

impl<'a> ClassCompaction<'a> {
    /// Continues emptying the source below `object`.
    pub(super) fn resume_below(&mut self, source: SourceZspage, object: u16) {
        self.source = Some(SourceZspage { below: object, ..source });
    }

    /// Skips a zspage for the rest of this compaction.
    pub(super) fn skip_zspage(&mut self, chain: ChainId) {
        self.skipped.push(chain);
        self.source = None;
    }

    /// Picks the current source while it has live and free objects, then the emptiest zspage
    /// (L-19).
    pub(super) fn pick_source(&self, state: &ClassState) -> Option<SourceZspage> {
        let current = self.source.filter(|source| self.is_partial(source.chain));
        current.or_else(|| {
            let chain = FullnessGroup::partial_fullest_first()
                .rev()
                .find_map(|group| self.find_emptiest(state, group))?;
            Some(SourceZspage { chain, below: self.class.objects })
        })
    }

    /// Finds the emptiest zspage of a group that was not skipped, among the first few.
    fn find_emptiest(&self, state: &ClassState, group: FullnessGroup) -> Option<ChainId> {
        let zspages = &self.pool.zspages;
        let candidates =
            state.list(group).iter(zspages).take(SOURCE_SCAN_LIMIT + self.skipped.len());
        let open = candidates.filter(|id| !self.skipped.contains(id)).take(SOURCE_SCAN_LIMIT);
        open.min_by_key(|&id| self.used(id))
    }

    /// Returns whether the zspage has live and free objects. The number may name a newer zspage
    /// by now, which is as good a source.
    fn is_partial(&self, chain: ChainId) -> bool {
        let head = self.pool.zspages.head(chain).filter(|head| head.class == self.class.index);
        head.is_some_and(|head| {
            head.group != FullnessGroup::EMPTY && head.group != FullnessGroup::FULL
        })
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
        // Visit the groups that are no emptier than the source's, the fullest first.
        let least = zspages.head(source)?.used;
        let emptiest = FullnessGroup::of(least, self.class.objects);
        for group in FullnessGroup::partial_fullest_first().take_while(|&group| group >= emptiest) {
            let candidates = state.list(group).iter(zspages).take(2 * MAX_REFUSALS + 1);
            for chain in candidates.filter(|&id| id != source) {
                if refused.contains(chain) || self.used(chain) < least {
                    continue;
                }
                if refused.count == MAX_REFUSALS {
                    return None;
                }
                // Take the first zspage that is not busy.
                if let Some(held) = zspages.chains().try_exclusive(chain) {
                    zspages.prefetch_next(chain);
                    return Some(held);
                }
                refused.add(chain);
            }
        }
        None
    }
}

/// Destinations that refused in this batch: they were busy, or need frames that cannot be
/// allocated.
#[derive(Default)]
pub(super) struct RefusedDestinations {
    ids: [Option<ChainId>; MAX_REFUSALS],
    count: usize,
    /// Whether one of them needed a frame.
    pub(super) lack_frames: bool,
}

impl RefusedDestinations {
    /// Adds a destination.
    pub(super) fn add(&mut self, chain: ChainId) {
        if let Some(entry) = self.ids.get_mut(self.count) {
            *entry = Some(chain);
            self.count += 1;
        }
    }

    /// Returns whether no destination refused.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn contains(&self, chain: ChainId) -> bool {
        self.ids[..self.count].contains(&Some(chain))
    }
}
