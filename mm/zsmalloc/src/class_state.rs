//! Lists and counters of a size class, under its lock.

use frames::ChainId;

use crate::class::SizeClass;
use crate::fullness::{FULLNESS_GROUPS, FullnessGroup};
use crate::gauge::Gauge;
use crate::zspage::{ZspageList, Zspages};

/// Counters of a class.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassCounters {
    /// Zspages, also empty ones.
    pub(crate) zspages: u64,
    /// Live objects.
    pub(crate) objects: u64,
    /// Attached frames.
    pub(crate) frames: u64,
    /// Payload bytes of live objects.
    pub(crate) live_bytes: u64,
}

/// Lists and counters of a class, under its lock. They change by the methods here only.
#[derive(Debug)]
pub(crate) struct ClassState {
    class: SizeClass,
    lists: [ZspageList; FULLNESS_GROUPS],
    counters: ClassCounters,
    /// Whether a thread is compacting the class.
    compacting: bool,
}

impl ClassState {
    /// Builds the state of a class without zspages.
    pub(crate) fn new(class: SizeClass) -> Self {
        let lists = [ZspageList::EMPTY; FULLNESS_GROUPS];
        Self { class, lists, counters: ClassCounters::default(), compacting: false }
    }

    /// Returns the class.
    pub(crate) fn class(&self) -> SizeClass {
        self.class
    }

    /// Returns the counters.
    pub(crate) fn counters(&self) -> ClassCounters {
        self.counters
    }

    /// Returns the lists, one for each fullness group.
    pub(crate) fn lists(&self) -> &[ZspageList; FULLNESS_GROUPS] {
        &self.lists
    }

    /// Returns the list of a fullness group.
    pub(crate) fn list(&self, group: FullnessGroup) -> ZspageList {
        self.lists[group.index()]
    }

    /// Initializes the record of a new zspage, puts it on the list of the empty ones and counts
    /// it.
    pub(crate) fn zspage_added(&mut self, records: &Zspages, id: ChainId) {
        records.init_record(id, self.class.index);
        self.lists[FullnessGroup::EMPTY.index()].add(records, id, 0);
        self.counters.zspages += 1;
    }

    /// Takes a zspage without objects off its list, which is that of `group`, and clears its
    /// record.
    pub(crate) fn zspage_removed(&mut self, records: &Zspages, id: ChainId, group: FullnessGroup) {
        self.lists[group.index()].remove(records, id);
        self.counters.zspages -= 1;
        records.clear_record(id);
    }

    /// Counts an object of `len` bytes that became live.
    pub(crate) fn object_added(&mut self, len: usize) {
        self.counters.objects += 1;
        self.counters.live_bytes += len as u64;
    }

    /// Counts an object of `len` bytes that is no longer live.
    pub(crate) fn object_removed(&mut self, len: usize) {
        self.counters.objects -= 1;
        self.counters.live_bytes -= len as u64;
    }

    /// Counts an attached frame, also among `all` frames of the pool.
    pub(crate) fn frame_attached(&mut self, all: &Gauge) {
        self.counters.frames += 1;
        all.inc();
    }

    /// Counts a detached frame, like [`ClassState::frame_attached`].
    pub(crate) fn frame_detached(&mut self, all: &Gauge) {
        self.counters.frames -= 1;
        all.dec();
    }

    /// Moves a zspage to the list of its fullness group (INV-POOL-4).
    pub(crate) fn fix_fullness_group(&mut self, records: &Zspages, id: ChainId) {
        let Some(mut head) = records.head(id) else { return };
        let group = FullnessGroup::of(head.used, self.class.objects);
        if group != head.group {
            self.lists[head.group.index()].remove(records, id);
            self.lists[group.index()].add(records, id, head.used);
            head.group = group;
            records.set_head(id, head);
        }
    }

    /// Returns the frames that a compaction of the class can free: those beyond what its objects
    /// need when packed. A huge zspage is one frame with one object, so there are none.
    ///
    /// Saturates instead of wrapping (B6, L-09).
    pub(crate) fn freeable(&self) -> u64 {
        if self.class.is_huge() {
            return 0;
        }
        self.counters.frames.saturating_sub(self.frames_needed())
    }

    /// Returns the frames that the live objects need when packed.
    pub(crate) fn frames_needed(&self) -> u64 {
        self.class.frames_for(self.counters.objects)
    }

    /// Marks the class as being compacted. Returns whether it was not marked before.
    pub(crate) fn begin_compaction(&mut self) -> bool {
        !std::mem::replace(&mut self.compacting, true)
    }

    /// Clears the mark of [`ClassState::begin_compaction`].
    pub(crate) fn end_compaction(&mut self) {
        self.compacting = false;
    }
}
