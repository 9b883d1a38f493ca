//! Moving the objects of a zspage to others, or to its own front if it is the last partial one.

use std::ops::ControlFlow;

use frames::{ChainId, Exclusive, FRAME_SIZE, FrameCount, ReleaseStatus, Shared};

use super::class::{ClassCompaction, MAX_BATCH, RefusedDestinations, SourceZspage};
use crate::class::MAX_OBJECT;
use crate::handle::Handle;
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
            Some(StopReason::NoDestination) if refused.ids.is_empty() => self.pack(state, chain),
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
                refused.ids.push(held.id());
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

    /// Packs the last partial zspage: moves its last objects into the free slots before them.
    fn pack(
        &mut self,
        state: &mut LockedClass<'_>,
        chain: ChainId,
    ) -> ControlFlow<CompactionOutcome> {
        let (pool, class) = (self.pool, self.class);
        let needed = state.frames_needed();
        // Dropping it ignores a pending mark: new marks need the class lock, which is held, and
        // the previous holder does the work of old ones.
        let Some(mut held) = pool.zspages.chains.try_exclusive(chain) else {
            return self.skip_and_count(chain);
        };
        let mut copy = [0; MAX_OBJECT];
        let live = pool.zspages.live_below(chain, class.objects).take(MAX_BATCH);
        let holes = pool.zspages.free(chain, class);
        let mut moved = 0;
        for (last, hole) in live.zip(holes).filter(|(last, hole)| hole < last) {
            if self.deadline.has_passed() {
                return ControlFlow::Break(CompactionOutcome::OutOfTime);
            }
            if state.counters().frames <= needed {
                return ControlFlow::Break(CompactionOutcome::Done);
            }
            let slot = |object| ObjectSlot { chain, object, class };
            let Some(len) = move_within_zspage(state, &mut held, slot(last), slot(hole), &mut copy)
            else {
                break;
            };
            moved += 1;
            self.report.objects_moved += 1;
            self.report.bytes_moved += len as u64;
        }
        // Without a move it is packed as far as possible.
        if moved == 0 { self.skip_zspage(chain) } else { ControlFlow::Continue(()) }
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

/// Copies an object. Returns its handle and length, or `None` when it cannot be read.
fn copy_object(
    pool: &Pool,
    source: &Shared<'_>,
    from: ObjectSlot,
    held: &mut Exclusive<'_>,
    to: ObjectSlot,
) -> Option<(Handle, usize)> {
    let (handle, len) = lookup(pool, from, from.header(source)?)?;
    let bytes = source.pieces(from.payload(len))?;
    let written = to.write(held, handle.index(), bytes);
    // Check after the copy: it can be the first to touch failed memory.
    let failed = source.has_failed(from.bytes(len)) || held.has_failed(to.bytes(len));
    (written && !failed).then_some((handle, len))
}

/// Returns the object in a slot if `index`, which its header names, and its handle agree.
fn lookup(pool: &Pool, slot: ObjectSlot, index: u32) -> Option<(Handle, usize)> {
    let (handle, location) = pool.handles.locate_index(index)?;
    let here = location.chain() == slot.chain && location.object() == slot.object;
    here.then(|| (handle, pool.handles.len_of(handle)))
}

/// Points the handle of an object of `len` bytes at `to` and frees `from`. Returns how many frames
/// of `from` become empty, or `None` when the tables contradict themselves, which poisons the pool.
///
/// The caller has written the bytes, and fixes both zspages' fullness groups before it unlocks.
fn relocate_object(
    state: &mut LockedClass<'_>,
    (handle, len): (Handle, usize),
    from: ObjectSlot,
    to: ObjectSlot,
) -> Option<u64> {
    state.add_object(to, handle, len).ok()?;
    state.pool.handles.relocate(handle, to.chain, to.object);
    state.clear_object(from, len).ok()
}

/// Moves the last object of a zspage to a free slot in it and detaches the frames it leaves.
/// Returns its length, or `None` when it cannot be read or no frame is free for it.
fn move_within_zspage(
    state: &mut LockedClass<'_>,
    held: &mut Exclusive<'_>,
    from: ObjectSlot,
    to: ObjectSlot,
    copy: &mut [u8; MAX_OBJECT],
) -> Option<usize> {
    let pool = state.pool;
    let (handle, len) = lookup(pool, from, from.header_exclusive(held)?)?;
    from.copy_out(held, &mut copy[..len])?;
    if held.has_failed(from.bytes(len)) {
        return None;
    }
    let mut over_limit = None;
    if state.attach_frames(held, to.object).is_err() {
        // At the limit, exceed it by the frame that this move frees again.
        let below = pool.zspages.live_below(from.chain, from.object).next();
        if !from.class.empties_frame(from.object, below) {
            return None;
        }
        over_limit = Some(pool.zone.allow_over_limit(FrameCount(1)));
        state.attach_frames(held, to.object).ok()?;
    }
    if !to.write(held, handle.index(), (&copy[..len], &[])) {
        pool.poison();
        return None;
    }
    if held.has_failed(to.bytes(len)) {
        state.detach_empty_frames(held, to.class.frames_of(to.object));
        return None;
    }
    let emptied = relocate_object(state, (handle, len), from, to)?;
    if emptied > 0 {
        state.detach_empty_frames(held, from.class.frames_of(from.object));
    }
    drop(over_limit);
    Some(len)
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
