//! Moving the objects of a zspage to others.

use std::ops::ControlFlow;

use frames::{Exclusive, FRAME_SIZE, FrameCount, ReleaseStatus, Shared};

use super::class::{ClassCompaction, MAX_BATCH, RefusedDestinations, SourceZspage};
use super::object::{copy_object, relocate_object};
use crate::object::ObjectSlot;
use crate::pool::{LockedClass, Pool};
use crate::stats::CompactionOutcome;

/// Progress of a batch.
#[derive(Default)]
struct BatchProgress {
    moved: u64,
    /// Frames of the source that became empty; detached when the source is released.
    emptied: u64,
    /// Whether an object could not be read.
    damaged: bool,
    /// Objects of the batch that were visited.
    done: usize,
}

/// Reason for the early end of a batch.
enum StopReason {
    OutOfTime,
    /// The class holds no more frames than it needs.
    NothingToGain,
    /// No zspage takes the next object.
    NoDestination,
}

impl ClassCompaction<'_> {
    /// Moves the last objects of the source to destinations. The caller holds the class lock.
    pub(super) fn empty_source(
        &mut self,
        state: &mut LockedClass<'_>,
        source: SourceZspage,
    ) -> ControlFlow<CompactionOutcome> {
        let (pool, class, chain) = (self.pool, self.class, source.chain);
        // The next objects, last first: this batch, and the next one for prefetching.
        let mut objects = [0; 2 * MAX_BATCH];
        let live = pool.zspages.live_below(chain, source.below.min(class.objects));
        let len = objects.iter_mut().zip(live).map(|(place, object)| *place = object).count();
        let (batch, next) = objects[..len].split_at(len.min(MAX_BATCH));
        if batch.is_empty() {
            // The rest cannot be moved, or was allocated meanwhile.
            return self.skip_zspage(chain);
        }
        let Some(held) = pool.zspages.chains.try_share(chain) else {
            return self.skip_and_count(chain);
        };
        let slot = |&object: &u16| ObjectSlot { chain, object, class };
        prefetch_moves(pool, &held, batch.iter().map(slot), next.iter().map(slot));
        let (mut progress, mut refused) =
            (BatchProgress::default(), RefusedDestinations::default());
        let mut stop = self.move_objects(state, &held, batch, &mut progress, &mut refused);
        let mut over_limit = None;
        if refused.lack_frames
            && progress.done == 0
            && held.is_alone()
            && class.empties_frame(batch[0], objects[..len].get(1).copied())
        {
            // At the limit no destination gets a frame, but the source frees one as soon as this
            // object is moved: exceed the limit by one frame for this time.
            over_limit = Some(pool.zone.allow_over_limit(FrameCount(1)));
            refused = RefusedDestinations::default();
            stop = self.move_objects(state, &held, &batch[..1], &mut progress, &mut refused);
        }
        state.fix_fullness_group(&pool.zspages, chain);
        // Release the source, and free the frames it no longer needs.
        let leaving = held.release();
        if progress.emptied > 0 || leaving == ReleaseStatus::Pending {
            // Not by `free_deferred`, which takes the class lock.
            state.release_empty_frames(chain);
        }
        drop(over_limit);
        self.report.objects_moved += progress.moved;
        self.report.skipped += u64::from(progress.damaged);
        if let Some(&last) = batch[..progress.done].last() {
            self.source = Some(SourceZspage { below: last, ..source });
        }
        match stop {
            None => ControlFlow::Continue(()),
            Some(StopReason::OutOfTime) => ControlFlow::Break(CompactionOutcome::OutOfTime),
            Some(StopReason::NothingToGain) => ControlFlow::Break(CompactionOutcome::Done),
            Some(StopReason::NoDestination) if progress.moved > 0 => ControlFlow::Continue(()),
            Some(StopReason::NoDestination) if refused.is_empty() => self.pack(state, chain),
            Some(StopReason::NoDestination) => self.skip_and_count(chain),
        }
    }

    /// Moves the objects of `run` to as many destinations as needed.
    fn move_objects(
        &mut self,
        state: &mut LockedClass<'_>,
        source: &Shared<'_>,
        run: &[u16],
        progress: &mut BatchProgress,
        refused: &mut RefusedDestinations,
    ) -> Option<StopReason> {
        while progress.done < run.len() {
            let Some(mut held) = self.pick_destination(state, source.id(), refused) else {
                return Some(StopReason::NoDestination);
            };
            let mut slots = [0; MAX_BATCH];
            let wanted = &mut slots[..run.len() - progress.done];
            let Some(slots) = find_slots(state, &mut held, wanted) else {
                refused.add(held.id());
                refused.lack_frames = true;
                continue;
            };
            let before = progress.moved;
            let stop = self.fill_destination(state, source, run, &mut held, slots, progress);
            state.fix_fullness_group(&self.pool.zspages, held.id());
            if let Some(&unused) = slots.get((progress.moved - before) as usize) {
                // A frame may have been attached for the unused slot.
                state.detach_empty_frames(&mut held, self.class.frames_of(unused));
            }
            if stop.is_some() {
                return stop;
            }
        }
        None
    }

    /// Moves objects of `run` to the slots `slots` of one destination.
    fn fill_destination(
        &mut self,
        state: &mut LockedClass<'_>,
        source: &Shared<'_>,
        run: &[u16],
        held: &mut Exclusive<'_>,
        slots: &[u16],
        progress: &mut BatchProgress,
    ) -> Option<StopReason> {
        let (pool, class, mut slots) = (self.pool, self.class, slots);
        let needed = state.frames_needed();
        while let (Some(&object), [slot, rest @ ..]) = (run.get(progress.done), slots) {
            // Stop when the budget or the gain is used up.
            if self.deadline.has_passed() {
                return Some(StopReason::OutOfTime);
            }
            if state.counters().frames.saturating_sub(progress.emptied) <= needed {
                return Some(StopReason::NothingToGain);
            }
            if let Some(&next) = run.get(progress.done + 1) {
                prefetch_front(pool, ObjectSlot { chain: source.id(), object: next, class });
            }
            // Copy the object and point its handle at the copy; skip it if it is damaged.
            progress.done += 1;
            let from = ObjectSlot { chain: source.id(), object, class };
            let to = ObjectSlot { chain: held.id(), object: *slot, class };
            let Some((handle, len)) = copy_object(pool, source, from, held, to) else {
                progress.damaged = true;
                continue;
            };
            slots = rest;
            let Some(emptied) = relocate_object(state, (handle, len), from, to) else {
                return Some(StopReason::NothingToGain);
            };
            progress.emptied += emptied;
            progress.moved += 1;
            self.report.bytes_moved += len as u64;
        }
        None
    }
}

/// Fills `slots` with free objects of a destination whose frames are attached, and returns those
/// found. Attaches frames for one object if there is none. Returns `None` when no frame can be
/// allocated.
fn find_slots<'s>(
    state: &mut LockedClass<'_>,
    held: &mut Exclusive<'_>,
    slots: &'s mut [u16],
) -> Option<&'s [u16]> {
    let (zspages, class) = (&state.pool.zspages, state.class());
    let sound = |position| {
        held.has_frame(position)
            && !held.has_failed(position * FRAME_SIZE..(position + 1) * FRAME_SIZE)
    };
    let ready = zspages.free(held.id(), class).filter(|&object| class.frames_of(object).all(sound));
    let mut found = slots.iter_mut().zip(ready).map(|(slot, object)| *slot = object).count();
    if found == 0 {
        slots[0] = state.pick_free_object(held).ok()??;
        found = 1;
    }
    Some(&slots[..found])
}

/// Prefetches the front of the next object; the CPU's own prefetcher continues from there.
fn prefetch_front(pool: &Pool, slot: ObjectSlot) {
    const AHEAD: usize = 1024;
    let len = slot.class.payload().min(AHEAD);
    pool.zspages.chains.prefetch_bytes(slot.chain, slot.bytes(len));
}

/// Prefetches what moving the objects of `batch` touches besides their bytes: the headers, also of
/// the `next` batch, the descriptors of the frames they leave, and the location words that the
/// headers name.
fn prefetch_moves(
    pool: &Pool,
    source: &Shared<'_>,
    batch: impl Iterator<Item = ObjectSlot> + Clone,
    next: impl Iterator<Item = ObjectSlot>,
) {
    let chains = &pool.zspages.chains;
    for slot in batch.clone().chain(next) {
        chains.prefetch_bytes(slot.chain, slot.bytes(0));
    }
    for slot in batch.clone() {
        let frames = slot.class.frames_of(slot.object);
        frames.for_each(|position| chains.prefetch_frame(slot.chain, position));
    }
    batch.filter_map(|slot| slot.header(source)).for_each(|index| pool.handles.prefetch(index));
}
