//! Lists and counters of a size class, under its lock, and the count of a pool's frames.

use frames::ChainId;
use sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::class::SizeClass;
use crate::zspage::{FULLNESS_GROUPS, FullnessGroup, ZspageList, Zspages};

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

/// A counter of attached frames and its high-water mark. Relaxed throughout: it orders nothing.
///
/// All threads share it, since counters per CPU have no common high-water mark. It changes once per
/// frame, not once per object.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Gauge {
    level: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    /// Increments the counter and raises the high-water mark.
    pub(crate) fn inc(&self) {
        let level = self.level.fetch_add(1, Relaxed) + 1;
        if level > self.peak.load(Relaxed) {
            self.peak.fetch_max(level, Relaxed);
        }
    }

    /// Decrements the counter.
    pub(crate) fn dec(&self) {
        self.level.fetch_sub(1, Relaxed);
    }

    /// Returns the counter.
    pub(crate) fn get(&self) -> u64 {
        self.level.load(Relaxed)
    }

    /// Returns the high-water mark.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    /// Resets the high-water mark to the counter.
    pub(crate) fn reset(&self) {
        self.peak.store(self.get(), Relaxed);
    }
}

/// Lists and counters of a class, under its lock. They change by the methods here only.
#[derive(Debug)]
pub(crate) struct ClassState {
    class: SizeClass,
    lists: [ZspageList; FULLNESS_GROUPS],
    counters: ClassCounters,
    /// Whether a thread is compacting the class.
    pub(crate) compacting: bool,
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

    /// Initializes the record of a new zspage, puts it on the empty ones' list and counts it.
    pub(crate) fn zspage_added(&mut self, records: &Zspages, id: ChainId) {
        records.init_record(id, self.class.index);
        self.lists[FullnessGroup::EMPTY.index()].add(records, id, 0);
        self.counters.zspages += 1;
    }

    /// Takes a zspage without objects off the list of its `group` and clears its record.
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
    /// need when packed. Saturates instead of wrapping (B6, L-09).
    pub(crate) fn freeable(&self) -> u64 {
        // Packing a zspage of one frame with one object frees nothing.
        if self.class.is_huge() {
            return 0;
        }
        self.counters.frames.saturating_sub(self.frames_needed())
    }

    /// Returns the frames that the live objects need when packed.
    pub(crate) fn frames_needed(&self) -> u64 {
        self.class.frames_for(self.counters.objects)
    }
}
