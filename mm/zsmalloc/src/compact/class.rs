//! One class: which zspage is emptied next, into which, and when it is enough.

use frames::{ChainId, Exclusive};

use super::Compaction;
use crate::Outcome;
use crate::class::SizeClass;
use crate::fullness::Group;
use crate::pool::{ClassState, Pool};
use frames::Deadline;

/// Objects moved under one hold of the class lock, and into one zspage under one hold of it: what others may have to wait for.
pub(super) const BATCH: usize = 16;
/// Zspages of the emptiest group looked at for the emptiest of them.
const LOOK: usize = 8;
/// Destinations that may refuse before a batch is given up.
const TRIES: usize = 8;
/// Zspages passed over before a class is given up.
const PASSES: usize = 64;

/// What one hold of the class lock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to do.
    Again,
    /// Nothing more can be gained.
    Finished,
    /// The budget is spent.
    OutOfTime,
}

/// One thread's compaction of one class.
pub(super) struct Visit<'a> {
    pub(super) pool: &'a Pool,
    pub(super) class: SizeClass,
    pub(super) deadline: Deadline,
    pub(super) report: &'a mut Compaction,
    source: Option<Source>,
    passed: Vec<ChainId>,
}

/// The zspage that is being emptied, from its end on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) chain: ChainId,
    /// Its objects from here on were looked at.
    pub(super) below: u16,
}

/// The mark that a class is being compacted. Taken and given back under the class lock.
struct Claim<'p> {
    pool: &'p Pool,
    class: SizeClass,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.pool.lock(self.class).compacting = false;
    }
}

impl Pool {
    /// Compacts one class, unless another thread is at it.
    pub(crate) fn compact_class(
        &self,
        class: SizeClass,
        deadline: Deadline,
        report: &mut Compaction,
    ) -> Outcome {
        let mut state = self.lock(class);
        if state.freeable(class) == 0 || self.is_poisoned() {
            return Outcome::Done;
        }
        if std::mem::replace(&mut state.compacting, true) {
            return Outcome::AlreadyRunning;
        }
        // Others may free and allocate as fast as we move. No object needs to move more than twice: into another zspage, and to the front of that.
        let enough = report.objects_moved + 2 * state.used;
        drop(state);
        let _claim = Claim { pool: self, class };
        Visit { pool: self, class, deadline, report, source: None, passed: Vec::new() }.run(enough)
    }
}

impl<'a> Visit<'a> {
    fn run(&mut self, enough: u64) -> Outcome {
        // Frames we freed less those we took: the class is locked in each step, so they are ours alone.
        let (mut frames, mut zspages) = (0, 0);
        let outcome = loop {
            if self.deadline.has_passed() {
                break Outcome::OutOfTime;
            }
            let mut state = self.pool.lock(self.class);
            let before = (state.frames, state.zspages);
            let step = self.step(&mut state);
            frames += before.0.cast_signed() - state.frames.cast_signed();
            zspages += before.1.saturating_sub(state.zspages);
            drop(state);
            self.pool.zspages.chains().release_excess_if_due();
            let over = self.report.objects_moved >= enough || self.pool.is_poisoned();
            match step {
                Step::OutOfTime => break Outcome::OutOfTime,
                Step::Again if !over => {}
                Step::Again | Step::Finished => break Outcome::Done,
            }
        };
        self.report.frames_freed += u64::try_from(frames).unwrap_or(0);
        self.report.zspages_freed += zspages;
        outcome
    }

    /// What is done under one hold of the class lock: a bounded number of objects and of looks.
    fn step(&mut self, state: &mut ClassState) -> Step {
        if state.freeable(self.class) == 0 || self.passed.len() >= PASSES {
            return Step::Finished;
        }
        let Some(source) = self.source(state) else { return Step::Finished };
        self.source = Some(source);
        self.empty(state, source)
    }

    /// The source goes on to be emptied below `object`.
    pub(super) fn go_on_below(&mut self, source: Source, object: u16) {
        self.source = Some(Source { below: object, ..source });
    }

    /// Leaves a zspage as it is for the rest of this visit.
    pub(super) fn pass_over(&mut self, chain: ChainId) {
        self.passed.push(chain);
        self.source = None;
    }

    /// The zspage at hand as long as it has live and free objects, then the emptiest (L-19).
    fn source(&self, state: &ClassState) -> Option<Source> {
        let current = self.source.filter(|source| self.is_partial(source.chain));
        current.or_else(|| {
            let chain = Group::partial_fullest_first()
                .rev()
                .find_map(|group| self.emptiest(state, group))?;
            Some(Source { chain, below: self.class.objects })
        })
    }

    fn emptiest(&self, state: &ClassState, group: Group) -> Option<ChainId> {
        let zspages = &self.pool.zspages;
        let candidates = state.lists[group.index()].iter(zspages).take(LOOK + self.passed.len());
        let open = candidates.filter(|id| !self.passed.contains(id)).take(LOOK);
        open.min_by_key(|&id| self.used(id))
    }

    /// The number may name a younger zspage by now, which is no worse a source.
    fn is_partial(&self, chain: ChainId) -> bool {
        let head = self.pool.zspages.head(chain).filter(|head| head.class == self.class.index);
        head.is_some_and(|head| head.group != Group::EMPTY && head.group != Group::FULL)
    }

    fn used(&self, chain: ChainId) -> u16 {
        self.pool.zspages.head(chain).map_or(0, |head| head.used)
    }

    /// The fullest zspage that has room, is no emptier than the source, and can be had alone; those that cannot be had are noted in `tried`.
    ///
    /// No emptier: then the fuller zspages only get fuller, and no object comes back to where it was (S-47).
    pub(super) fn destination(
        &self,
        state: &ClassState,
        source: ChainId,
        tried: &mut Tried,
    ) -> Option<Exclusive<'a>> {
        let zspages = &self.pool.zspages;
        let least = zspages.head(source)?.used;
        let emptiest = Group::of(least, self.class.objects);
        for group in Group::partial_fullest_first().take_while(|&group| group >= emptiest) {
            let candidates = state.lists[group.index()].iter(zspages).take(2 * TRIES + 1);
            for chain in candidates.filter(|&id| id != source) {
                if tried.contains(chain) || self.used(chain) < least {
                    continue;
                }
                if tried.is_full() {
                    return None;
                }
                if let Some(held) = zspages.chains().try_exclusive(chain) {
                    zspages.prefetch_next(chain);
                    return Some(held);
                }
                tried.note(chain);
            }
        }
        None
    }
}

/// Destinations that refused in this batch: somebody was inside, or they lack frames that cannot be had.
#[derive(Default)]
pub(super) struct Tried {
    ids: [Option<ChainId>; TRIES],
    count: usize,
    lack_frames: bool,
}

impl Tried {
    pub(super) fn note(&mut self, chain: ChainId) {
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = Some(chain);
            self.count += 1;
        }
    }

    /// As [`Tried::note`], for one that lacks frames.
    pub(super) fn note_lacking(&mut self, chain: ChainId) {
        self.note(chain);
        self.lack_frames = true;
    }

    pub(super) fn lack_frames(&self) -> bool {
        self.lack_frames
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn is_full(&self) -> bool {
        self.count == TRIES
    }

    fn contains(&self, chain: ChainId) -> bool {
        self.ids[..self.count].contains(&Some(chain))
    }
}
