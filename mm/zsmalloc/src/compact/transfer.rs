//! Moving objects from a source zspage to destinations.

use frames::{ChainId, Exclusive, FRAME_SIZE, FrameCount, Shared};

use super::class::{BatchOutcome, ClassCompaction, MAX_BATCH, RefusedDestinations, SourceZspage};
use super::object::{copy_object, relocate_object};
use crate::class::SizeClass;
use crate::object::ObjectSlot;
use crate::pool::LockedClass;
use crate::prefetch::{prefetch_front, prefetch_moves};

/// The next objects of a source, last first: this batch, and the next one for prefetching.
struct SourceObjects {
    chain: ChainId,
    class: SizeClass,
    objects: [u16; 2 * MAX_BATCH],
    len: usize,
}

/// Progress of a batch.
#[derive(Default)]
struct BatchProgress {
    moved: u64,
    /// Frames of the source that became empty; detached when the source is released.
    emptied: u64,
    /// Objects that cannot be read.
    damaged: u64,
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
    ) -> BatchOutcome {
        let (pool, chain) = (self.pool, source.chain);
        let run = SourceObjects::of(self, source);
        if run.len == 0 {
            // The rest cannot be moved, or was allocated meanwhile.
            self.skip_zspage(chain);
            return BatchOutcome::Continue;
        }
        let Some(held) = pool.zspages.chains().try_share(chain) else {
            self.report.skipped += 1;
            self.skip_zspage(chain);
            return BatchOutcome::Continue;
        };
        prefetch_moves(pool, &held, run.slots(run.objects()), run.slots(run.next()));
        let (mut progress, mut refused) =
            (BatchProgress::default(), RefusedDestinations::default());
        let mut stop = self.move_objects(state, &held, run.objects(), &mut progress, &mut refused);
        let mut over_limit = None;
        if refused.lack_frames && progress.done == 0 && held.is_alone() && run.first_empties_frame()
        {
            // At the limit no destination gets a frame, but the source frees one as soon as this
            // object is moved: exceed the limit by one frame for this time.
            over_limit = Some(pool.zone.allow_over_limit(FrameCount(1)));
            refused = RefusedDestinations::default();
            stop =
                self.move_objects(state, &held, &run.objects()[..1], &mut progress, &mut refused);
        }
        state.fix_fullness_group(chain);
        // Release the source, and free the frames it no longer needs.
        let leaving = held.release();
        if progress.emptied > 0 || leaving == frames::ReleaseStatus::Pending {
            // A pending mark is handled here and not by `free_deferred`, which takes the class
            // lock.
            state.release_empty_frames(chain);
        }
        drop(over_limit);
        // Report, and decide how to continue.
        self.report.objects_moved += progress.moved;
        if progress.damaged > 0 {
            self.report.skipped += 1;
        }
        if let Some(&last) = run.objects[..progress.done].last() {
            self.resume_below(source, last);
        }
        match stop {
            None => BatchOutcome::Continue,
            Some(StopReason::OutOfTime) => BatchOutcome::OutOfTime,
            Some(StopReason::NothingToGain) => BatchOutcome::Finished,
            Some(StopReason::NoDestination) if progress.moved > 0 => BatchOutcome::Continue,
            Some(StopReason::NoDestination) if refused.is_empty() => self.pack(state, chain),
            Some(StopReason::NoDestination) => {
                self.report.skipped += 1;
                self.skip_zspage(chain);
                BatchOutcome::Continue
            }
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
            let Some(slots) = FreeSlots::of(state, &mut held, run.len() - progress.done) else {
                refused.add(held.id());
                refused.lack_frames = true;
                continue;
            };
            let before = progress.moved;
            let stop =
                self.fill_destination(state, source, run, &mut held, slots.objects(), progress);
            state.fix_fullness_group(held.id());
            if let Some(&unused) = slots.objects().get((progress.moved - before) as usize) {
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
        let (pool, class) = (self.pool, self.class);
        let needed = state.frames_needed();
        let mut slots = slots.iter();
        while let (Some(&object), Some(&slot)) = (run.get(progress.done), slots.as_slice().first())
        {
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
            let to = ObjectSlot { chain: held.id(), object: slot, class };
            let Some((handle, len)) = copy_object(pool, source, from, held, to) else {
                progress.damaged += 1;
                continue;
            };
            slots.next();
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

/// Free objects of a destination whose frames are attached.
struct FreeSlots {
    objects: [u16; MAX_BATCH],
    len: usize,
}

impl FreeSlots {
    /// Returns at most `wanted` slots; when no free slot has its frames, one slot with frames
    /// attached for it. Returns `None` when no frame can be allocated.
    fn of(state: &mut LockedClass<'_>, held: &mut Exclusive<'_>, wanted: usize) -> Option<Self> {
        let (zspages, class) = (&state.pool.zspages, state.class());
        let mut slots = Self { objects: [0; MAX_BATCH], len: 0 };
        let sound = |position| {
            held.has_frame(position)
                && !held.has_failed(position * FRAME_SIZE..(position + 1) * FRAME_SIZE)
        };
        let ready = |object: &u16| class.frames_of(*object).all(sound);
        for object in zspages.free(held.id(), class).filter(ready).take(wanted.min(MAX_BATCH)) {
            slots.objects[slots.len] = object;
            slots.len += 1;
        }
        if slots.len == 0 {
            slots.objects[0] = state.pick_free_object(held).ok()??;
            slots.len = 1;
        }
        Some(slots)
    }

    fn objects(&self) -> &[u16] {
        &self.objects[..self.len]
    }
}

impl SourceObjects {
    fn of(compaction: &ClassCompaction<'_>, source: SourceZspage) -> Self {
        let (chain, class) = (source.chain, compaction.class);
        let mut run = Self { chain, class, objects: [0; 2 * MAX_BATCH], len: 0 };
        let live = compaction.pool.zspages.live_below(chain, source.below.min(class.objects));
        for object in live.take(2 * MAX_BATCH) {
            run.objects[run.len] = object;
            run.len += 1;
        }
        run
    }

    fn objects(&self) -> &[u16] {
        &self.objects[..self.len.min(MAX_BATCH)]
    }

    fn next(&self) -> &[u16] {
        &self.objects[self.len.min(MAX_BATCH)..self.len]
    }

    fn slots(&self, objects: &[u16]) -> impl Iterator<Item = ObjectSlot> + Clone {
        let Self { chain, class, .. } = *self;
        objects.iter().map(move |&object| ObjectSlot { chain, object, class })
    }

    /// Returns whether moving the first object, which is the source's last, empties a frame.
    fn first_empties_frame(&self) -> bool {
        let objects = &self.objects[..self.len];
        let below = objects.get(1).copied();
        objects.first().is_some_and(|&last| self.class.empties_frame(last, below))
    }
}
