//! Object compaction: objects move out of the emptiest zspages into the fullest, so that frames become free.
//!
//! One object at a time: the class is locked, the destination held exclusively for the one copy, the source only shared, so its readers
//! are not disturbed and a moved object's old bytes stay for those who look at them. A zspage in use by somebody else is passed over, not waited
//! for (KERNEL 1.4 ends the whole class there). What is left of a class is at most one zspage with room, packed to its front.

use frames::{ExtentId, Gathered, Leaving, Shared};
use sync::atomic::Ordering::Relaxed;

use crate::budget::Deadline;
use crate::class::SizeClass;
use crate::fullness::Group;
use crate::handle::{Handle, Location};
use crate::object::Slot;
use crate::pool::{ClassState, Pool};
use crate::zspage::frames_of;
use crate::{Budget, MAX_OBJECT};

/// Objects moved before the class is unlocked for a moment.
const BATCH: usize = 16;
/// Busy zspages passed over in a group when looking for a source or a destination.
const TRIES: usize = 8;

/// How a compaction ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to gain, apart from zspages that were busy.
    #[default]
    Done,
    /// The budget ran out first.
    OutOfTime,
    /// Another thread is compacting this pool; nothing was done.
    AlreadyRunning,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Objects that have a new place.
    pub objects_moved: u64,
    /// Payload bytes copied.
    pub bytes_moved: u64,
    /// Frames that went back to the zone.
    pub frames_freed: u64,
    /// Zspages that ended.
    pub zspages_freed: u64,
    /// Times a class was left because every zspage worth moving was busy, damaged, or could get no frame.
    pub skipped: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a gathering did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathering {
    /// Frames that have a new place.
    pub frames_moved: u64,
    /// Frames passed over because somebody was inside their zspage.
    pub frames_busy: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Compaction {
    fn count(&mut self, before: (u64, u64), state: &ClassState) {
        // Other threads may add frames between two batches, never within one: the class is locked.
        self.frames_freed += before.0.saturating_sub(state.frames);
        self.zspages_freed += before.1.saturating_sub(state.zspages);
    }
}

/// What one batch came to.
enum Batch {
    Moved,
    NothingToGain,
    Busy,
    OutOfTime,
}

impl Pool {
    /// Moves objects together until nothing is left to gain or the budget is spent. Readers, writers and frees go on meanwhile.
    ///
    /// Locking: one class at a time, for a few objects; nothing is waited for.
    pub fn compact(&self, budget: &Budget) -> Compaction {
        let mut report = Compaction::default();
        let Some(_single) = self.compacting.try_lock() else {
            report.outcome = Outcome::AlreadyRunning;
            return report;
        };
        let deadline = budget.start();
        for class in self.classes.iter().rev().filter(|class| !class.is_huge()) {
            if !self.compact_class(class, deadline, &mut report) {
                report.outcome = Outcome::OutOfTime;
                break;
            }
        }
        // Relaxed: statistics.
        self.objects_compacted.fetch_add(report.objects_moved, Relaxed);
        self.frames_compacted.fetch_add(report.frames_freed, Relaxed);
        report
    }

    /// Gathering: moves frames of this pool down in the arena, so that whole 2 MiB blocks become free and go back to the OS. Worth it after
    /// [`Pool::compact`], which frees frames wherever they are.
    ///
    /// Locking: one zspage at a time, tried; its readers are passed over.
    pub fn gather(&self, budget: &Budget) -> Gathering {
        let mut report = Gathering::default();
        let Some(_single) = self.gathering.try_lock() else {
            report.outcome = Outcome::AlreadyRunning;
            return report;
        };
        let deadline = budget.start();
        let mut gather = self.zspages.extents().gather();
        loop {
            if deadline.has_passed() {
                report.outcome = Outcome::OutOfTime;
                return report;
            }
            match gather.step() {
                Some(Gathered::Moved { extent, leaving }) => {
                    report.frames_moved += 1;
                    self.leave(extent, leaving);
                }
                Some(Gathered::Busy) => report.frames_busy += 1,
                None => return report,
            }
        }
    }

    /// `false` when time ran out.
    fn compact_class(&self, class: SizeClass, deadline: Deadline, report: &mut Compaction) -> bool {
        // Others may free and allocate as fast as we move; no object needs to move twice.
        let enough = report.objects_moved + self.lock(class).used;
        while report.objects_moved < enough && !self.is_poisoned() {
            let mut state = self.lock(class);
            let before = (state.frames, state.zspages);
            let batch = self.compact_batch(&mut state, class, deadline, report);
            report.count(before, &state);
            drop(state);
            self.zone.settle();
            match batch {
                Batch::Moved => {}
                Batch::NothingToGain => return true,
                Batch::OutOfTime => return false,
                Batch::Busy => {
                    report.skipped += 1;
                    return true;
                }
            }
        }
        true
    }

    /// Moves some objects from one zspage, which is kept from changing meanwhile. The class is locked.
    fn compact_batch(
        &self,
        state: &mut ClassState,
        class: SizeClass,
        deadline: Deadline,
        report: &mut Compaction,
    ) -> Batch {
        let Some(source) = self.emptiest(state) else { return Batch::NothingToGain };
        let Some(held) = self.zspages.extents().try_share(source) else { return Batch::Busy };
        if self.only_partial(state, source) {
            self.leave_locked(state, source, class, held.release());
            return self.pack(state, class, source, deadline, report);
        }
        let mut batch = Batch::Busy;
        for object in self.zspages.live(source, class).rev().take(BATCH) {
            if deadline.has_passed() {
                batch = Batch::OutOfTime;
                break;
            }
            let from = Slot { extent: source, object, class };
            if self.move_object(state, &held, from, report) {
                batch = Batch::Moved;
            }
        }
        self.leave_locked(state, source, class, held.release());
        batch
    }

    /// As [`Pool::leave`] for one who holds the class lock: what others left to be done is done here and not by `reap`.
    fn leave_locked(&self, state: &mut ClassState, extent: ExtentId, class: SizeClass, leaving: Leaving) {
        if leaving == Leaving::Pending {
            self.shrink(state, extent, class);
        }
    }

    /// The zspage to empty next: from the emptiest group.
    fn emptiest(&self, state: &ClassState) -> Option<ExtentId> {
        Group::partial_fullest_first().rev().find_map(|group| state.lists[group.index()].iter(&self.zspages).next())
    }

    /// Whether no other zspage of the class has both live and free objects.
    fn only_partial(&self, state: &ClassState, extent: ExtentId) -> bool {
        let mut partial = Group::partial_fullest_first().flat_map(|g| state.lists[g.index()].iter(&self.zspages));
        partial.all(|other| other == extent)
    }

    /// Moves one object to the fullest zspage that will have it; `false` when none will, or the object is damaged.
    fn move_object(&self, state: &mut ClassState, source: &Shared<'_>, from: Slot, report: &mut Compaction) -> bool {
        let Some((handle, len)) = self.resident(source, from) else { return false };
        let Some(bytes) = source.pieces(from.payload(len)) else { return false };
        for group in Group::partial_fullest_first() {
            let candidates = state.lists[group.index()].iter(&self.zspages).filter(|&id| id != from.extent).take(TRIES);
            for extent in candidates {
                let Some(mut held) = self.zspages.extents().try_exclusive(extent) else { continue };
                let Ok(object) = self.choose(&mut held, from.class, state) else { continue };
                let to = Slot { extent, object, class: from.class };
                let moved = to.write_pieces(&mut held, handle.index(), bytes) && self.settle(state, handle, from, to);
                drop(held);
                report.objects_moved += u64::from(moved);
                report.bytes_moved += if moved { len as u64 } else { 0 };
                return moved;
            }
        }
        false
    }

    /// The object in a slot, if its header and its handle agree that it is there.
    fn resident(&self, held: &Shared<'_>, slot: Slot) -> Option<(Handle, usize)> {
        let (handle, location) = self.handles.locate_index(slot.header(held)?)?;
        let here = location.extent() == slot.extent && location.object() == slot.object;
        here.then(|| (handle, self.handles.len_of(handle)))
    }

    /// Makes `to` the object's place and frees `from`. The class is locked and the bytes are written.
    fn settle(&self, state: &mut ClassState, handle: Handle, from: Slot, to: Slot) -> bool {
        let Some(mut head) = self.zspages.head(to.extent) else {
            self.poison();
            return false;
        };
        self.zspages.set_live(to.extent, to.object);
        head.used += 1;
        state.regroup(&self.zspages, to.extent, to.class, head);
        state.used += 1;
        self.handles.relocate(handle, Location::live(to.extent, to.object, handle.generation()));
        self.clear(state, from).is_ok()
    }

    /// Moves the last objects of a zspage into the holes before them: the one that is left of a class keeps no frame it does not need.
    fn pack(
        &self,
        state: &mut ClassState,
        class: SizeClass,
        extent: ExtentId,
        deadline: Deadline,
        report: &mut Compaction,
    ) -> Batch {
        let Some(last) = self.zspages.live(extent, class).next_back() else { return Batch::NothingToGain };
        let Some(hole) = self.zspages.free(extent, class).next().filter(|&hole| hole < last) else {
            return Batch::NothingToGain;
        };
        if deadline.has_passed() {
            return Batch::OutOfTime;
        }
        let (from, to) = (Slot { extent, object: last, class }, Slot { extent, object: hole, class });
        let mut copy = [0; MAX_OBJECT];
        let Some(held) = self.zspages.extents().try_share(extent) else { return Batch::Busy };
        let found = self.resident(&held, from).and_then(|(handle, len)| {
            let (head, tail) = held.pieces(from.payload(len))?;
            copy[..head.len()].copy_from_slice(head);
            copy[head.len()..len].copy_from_slice(tail);
            Some((handle, len))
        });
        self.leave_locked(state, extent, class, held.release());
        let Some((handle, len)) = found else { return Batch::Busy };
        let Some(mut held) = self.zspages.extents().try_exclusive(extent) else { return Batch::Busy };
        if self.attach(&mut held, class, hole, state).is_err() {
            return Batch::Busy;
        }
        let moved = to.write(&mut held, handle.index(), &copy[..len]) && self.settle(state, handle, from, to);
        report.objects_moved += u64::from(moved);
        report.bytes_moved += if moved { len as u64 } else { 0 };
        self.detach_empty(&mut held, class, frames_of(class, last), state);
        if moved { Batch::Moved } else { Batch::Busy }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
