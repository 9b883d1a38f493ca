//! Moving objects from a source zspage to destinations.

use frames::{Exclusive, FRAME_SIZE, FrameCount, Shared};

use super::class::{BatchOutcome, ClassCompaction, MAX_BATCH, RefusedDestinations, SourceZspage};
use crate::class::SizeClass;
use crate::handle::{Handle, Location};
use crate::object::ObjectSlot;
use crate::pool::{ClassState, Pool};

/// The next objects of a source, last first: this batch, and the next one for prefetching.
struct SourceObjects {
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
        state: &mut ClassState,
        source: SourceZspage,
    ) -> BatchOutcome {
        let (pool, class, chain) = (self.pool, self.class, source.chain);
        let run = SourceObjects::of(pool, class, source);
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
        run.prefetch(pool, class, &held);
        let (mut progress, mut refused) =
            (BatchProgress::default(), RefusedDestinations::default());
        let mut stop = self.move_objects(state, &held, run.objects(), &mut progress, &mut refused);
        let mut over_limit = None;
        if refused.lack_frames()
            && progress.done == 0
            && held.is_alone()
            && run.first_empties_frame(class)
        {
            // At the limit no destination gets a frame, but the source frees one as soon as this
            // object is moved: exceed the limit by one frame for this time.
            over_limit = Some(pool.zone.allow_over_limit(FrameCount(1)));
            refused = RefusedDestinations::default();
            stop =
                self.move_objects(state, &held, &run.objects()[..1], &mut progress, &mut refused);
        }
        pool.fix_fullness_group(state, chain, class);
        // Release the source, and free the frames it no longer needs.
        let leaving = held.release();
        if progress.emptied > 0 || leaving == frames::ReleaseStatus::Pending {
            // A pending mark is handled here and not by `free_deferred`, which takes the class
            // lock.
            pool.release_empty_frames(state, chain, class);
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
        state: &mut ClassState,
        source: &Shared<'_>,
        run: &[u16],
        progress: &mut BatchProgress,
        refused: &mut RefusedDestinations,
    ) -> Option<StopReason> {
        let (pool, class) = (self.pool, self.class);
        while progress.done < run.len() {
            let Some(mut held) = self.pick_destination(state, source.id(), refused) else {
                return Some(StopReason::NoDestination);
            };
            let Some(slots) =
                FreeSlots::of(pool, &mut held, class, run.len() - progress.done, state)
            else {
                refused.add_lacking_frames(held.id());
                continue;
            };
            let before = progress.moved;
            let stop =
                self.fill_destination(state, source, run, &mut held, slots.objects(), progress);
            pool.fix_fullness_group(state, held.id(), class);
            if let Some(&unused) = slots.objects().get((progress.moved - before) as usize) {
                // A frame may have been attached for the unused slot.
                pool.detach_empty_frames(&mut held, class, class.frames_of(unused), state);
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
        state: &mut ClassState,
        source: &Shared<'_>,
        run: &[u16],
        held: &mut Exclusive<'_>,
        slots: &[u16],
        progress: &mut BatchProgress,
    ) -> Option<StopReason> {
        let (pool, class) = (self.pool, self.class);
        let needed = class.frames_for(state.used);
        let mut slots = slots.iter();
        while let (Some(&object), Some(&slot)) = (run.get(progress.done), slots.as_slice().first())
        {
            // Stop when the budget or the gain is used up.
            if self.deadline.has_passed() {
                return Some(StopReason::OutOfTime);
            }
            if state.frames.saturating_sub(progress.emptied) <= needed {
                return Some(StopReason::NothingToGain);
            }
            if let Some(&next) = run.get(progress.done + 1) {
                pool.prefetch_slot(ObjectSlot { chain: source.id(), object: next, class });
            }
            // Copy the object and point its handle at the copy; skip it if it is damaged.
            progress.done += 1;
            let from = ObjectSlot { chain: source.id(), object, class };
            let to = ObjectSlot { chain: held.id(), object: slot, class };
            let Some((handle, len)) = pool.copy_object(source, from, held, to) else {
                progress.damaged += 1;
                continue;
            };
            slots.next();
            let Some(emptied) = pool.relocate_object(state, handle, from, to) else {
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
    fn of(
        pool: &Pool,
        held: &mut Exclusive<'_>,
        class: SizeClass,
        wanted: usize,
        state: &mut ClassState,
    ) -> Option<Self> {
        let mut slots = Self { objects: [0; MAX_BATCH], len: 0 };
        let sound = |position| {
            held.has_frame(position)
                && !held.has_failed(position * FRAME_SIZE..(position + 1) * FRAME_SIZE)
        };
        let ready = |object: &u16| class.frames_of(*object).all(sound);
        for object in pool.zspages.free(held.id(), class).filter(ready).take(wanted.min(MAX_BATCH))
        {
            slots.objects[slots.len] = object;
            slots.len += 1;
        }
        if slots.len == 0 {
            slots.objects[0] = pool.pick_free_object(held, class, state).ok()??;
            slots.len = 1;
        }
        Some(slots)
    }

    fn objects(&self) -> &[u16] {
        &self.objects[..self.len]
    }
}

impl SourceObjects {
    fn of(pool: &Pool, class: SizeClass, source: SourceZspage) -> Self {
        let mut run = Self { objects: [0; 2 * MAX_BATCH], len: 0 };
        for object in pool
            .zspages
            .live_below(source.chain, source.below.min(class.objects))
            .take(2 * MAX_BATCH)
        {
            run.objects[run.len] = object;
            run.len += 1;
        }
        run
    }

    fn objects(&self) -> &[u16] {
        &self.objects[..self.len.min(MAX_BATCH)]
    }

    /// Returns whether moving the first object, which is the source's last, empties a frame.
    fn first_empties_frame(&self, class: SizeClass) -> bool {
        let objects = &self.objects[..self.len];
        objects.first().is_some_and(|&last| class.empties_frame(last, objects.get(1).copied()))
    }

    /// Prefetches what moving these objects touches besides their bytes: the headers, also of the
    /// next batch, the descriptors of the frames they leave, and the location words that the
    /// headers name.
    fn prefetch(&self, pool: &Pool, class: SizeClass, held: &Shared<'_>) {
        let slot = |&object: &u16| ObjectSlot { chain: held.id(), object, class };
        for slot in self.objects[..self.len].iter().map(slot) {
            pool.zspages.chains().prefetch_bytes(slot.chain, slot.bytes(0));
        }
        let frames = self.objects().iter().flat_map(|&object| class.frames_of(object));
        frames.for_each(|position| pool.zspages.chains().prefetch_frame(held.id(), position));
        self.objects()
            .iter()
            .filter_map(|object| slot(object).header(held))
            .for_each(|i| pool.handles.prefetch_index(i));
    }
}

impl Pool {
    /// Prefetches the front of an object; the CPU's own prefetcher continues from there.
    fn prefetch_slot(&self, slot: ObjectSlot) {
        const AHEAD: usize = 1024;
        self.zspages
            .chains()
            .prefetch_bytes(slot.chain, slot.bytes(slot.class.payload().min(AHEAD)));
    }

    /// Copies the object in `from` to `to`. Returns its handle and length, or `None` when it
    /// cannot be read.
    fn copy_object(
        &self,
        source: &Shared<'_>,
        from: ObjectSlot,
        held: &mut Exclusive<'_>,
        to: ObjectSlot,
    ) -> Option<(Handle, usize)> {
        let (handle, len) = self.lookup(source, from)?;
        let bytes = source.pieces(from.payload(len))?;
        let written = to.write_pieces(held, handle.index(), bytes);
        // Check after the copy: it can be the first to touch failed memory.
        let failed = source.has_failed(from.bytes(len)) || held.has_failed(to.bytes(len));
        (written && !failed).then_some((handle, len))
    }

    /// Returns the object in a slot if its header and its handle agree.
    pub(super) fn lookup(&self, held: &Shared<'_>, slot: ObjectSlot) -> Option<(Handle, usize)> {
        self.lookup_by_index(slot, slot.header(held)?)
    }

    /// Looks up like [`Pool::lookup`], for a header that was already read.
    pub(super) fn lookup_by_index(&self, slot: ObjectSlot, index: u32) -> Option<(Handle, usize)> {
        let (handle, location) = self.handles.locate_index(index)?;
        let here = location.chain() == slot.chain && location.object() == slot.object;
        here.then(|| (handle, self.handles.len_of(handle)))
    }

    /// Points the object's handle at `to` and frees `from`. Returns how many frames of `from`
    /// become empty, or `None` when the tables contradict themselves, which poisons the pool.
    ///
    /// The caller holds the class lock, has written the bytes, and moves both zspages to their
    /// fullness groups before it unlocks.
    pub(super) fn relocate_object(
        &self,
        state: &mut ClassState,
        handle: Handle,
        from: ObjectSlot,
        to: ObjectSlot,
    ) -> Option<u64> {
        let Some(mut head) = self.zspages.head(to.chain) else {
            self.poison();
            return None;
        };
        self.zspages.set_live(to.chain, to.object);
        head.used += 1;
        self.zspages.set_head(to.chain, head);
        state.used += 1;
        self.handles.relocate(handle, Location::live(to.chain, to.object, handle.generation()));
        self.clear_object(state, from).ok()
    }
}
