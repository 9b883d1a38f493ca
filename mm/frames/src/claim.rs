//! A claim: neighbouring frames come into one hand, whatever they are now.
//!
//! Free frames of the range are taken at once. Movable ones are isolated and migrated elsewhere, and the old frame is *kept*: the isolation's own reference
//! becomes the claim's. So no frame is free in between, and no thief can come. What is ours is in use as a single frame, with one reference.
//!
//! All or nothing: before anything is moved, every frame in use of a pageblock must be isolated. What a claim that is dropped holds goes back.
//!
//! # The limit
//! A claim reserves room for all of its frames first. From then on each frame that comes in counts against the limit instead of against the reserve,
//! and what is moved away counted before and counts after.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::budget::Deadline;
use crate::descriptor::Put;
use crate::events::add;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::{Charge, Isolated, Mode, Target, Targets, Vacated};
use crate::state::{Kind, State};
use crate::units::{MigrateType, Order, Pfn};
use crate::zone::{Lists, Zone};

/// How often what is in the way of a claim is looked at again.
const PASSES: u32 = 10;
/// Frames to move to that are taken at once.
const BATCH: usize = 32;
/// Frames given back in one turn with the zone lock.
const TURN: usize = 128;

/// Why a claim failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    Limit,
    /// The zone is poisoned.
    Poisoned,
    NoRoom,
    OutOfTime,
    /// A movable frame that its owner, or somebody else, does not let go of now.
    Busy(Pfn),
    /// A frame nobody can move.
    Unmovable(Pfn),
}

#[derive(Debug)]
pub(crate) struct Claim<'z> {
    zone: &'z Zone,
    first: Pfn,
    frames: u32,
    /// A bit for each frame that is ours.
    ours: Vec<u64>,
    /// How many those are; room for the rest is reserved.
    held: u32,
    moved: u64,
}

impl<'z> Claim<'z> {
    /// Reserves room for the frames, then empties each per-CPU list: their frames have no owner and may
    /// be in the range.
    ///
    /// Locking: each list once, one after the other, also with the zone lock where it holds frames. The
    /// caller holds no lock of an owner.
    pub(crate) fn begin(zone: &'z Zone, first: Pfn, frames: u32) -> Result<Self, Obstacle> {
        zone.note_failures();
        let ours = vec![0; frames.div_ceil(64) as usize];
        let look = zone.look_drained(|buddy, lists| {
            let has_room = buddy.headroom() >= u64::from(frames);
            if has_room {
                buddy.reserved += u64::from(frames);
            }
            (has_room || lists == Lists::Empty).then_some(Ok(has_room))
        });
        match look {
            Ok(true) => {
                let claim = Self { zone, first, frames, ours, held: 0, moved: 0 };
                zone.drain_each_list();
                Ok(claim)
            }
            Ok(false) => Err(Obstacle::Limit),
            Err(_) => Err(Obstacle::Poisoned),
        }
    }

    /// Frames that were moved away.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Brings all frames in, pageblock by pageblock.
    pub(crate) fn complete(&mut self, mode: Mode, deadline: Deadline) -> Result<(), Obstacle> {
        let (first, frames) = (self.first, self.frames);
        // What is free first, everywhere: it must not be a place to move to.
        for (first, end) in chunks(first, frames) {
            if deadline.has_passed() {
                return Err(Obstacle::OutOfTime);
            }
            self.take_free(first, end);
        }
        chunks(first, frames).try_for_each(|(first, end)| self.gather(first, end, mode, deadline))
    }

    fn gather(
        &mut self,
        first: Pfn,
        end: Pfn,
        mode: Mode,
        deadline: Deadline,
    ) -> Result<(), Obstacle> {
        let mut obstacle = Obstacle::Busy(first);
        for pass in 0..PASSES {
            if pass > 0 {
                sync::relax(pass * 8);
                self.take_free(first, end);
            }
            if (first.0..end.0).all(|frame| self.has(Pfn(frame))) {
                return Ok(());
            }
            if deadline.has_passed() {
                return Err(Obstacle::OutOfTime);
            }
            obstacle = match self
                .isolate_rest(first, end)
                .and_then(|batch| self.move_away(batch, mode, deadline))
            {
                Err(last @ (Obstacle::NoRoom | Obstacle::OutOfTime)) => return Err(last),
                Err(other) => {
                    // Once: an owner that keeps its pins has its reasons.
                    if pass == 0 && mode == Mode::Sync {
                        self.tell_wanted(first, end);
                    }
                    other
                }
                Ok(()) => continue,
            };
        }
        self.take_free(first, end);
        if (first.0..end.0).all(|frame| self.has(Pfn(frame))) { Ok(()) } else { Err(obstacle) }
    }

    fn take_free(&mut self, first: Pfn, end: Pfn) {
        let zone = self.zone;
        if let Some(mut buddy) = zone.buddy.lock_sound() {
            buddy.take_range(&zone.tables, first, end, |pfn| self.mark(pfn));
        }
    }

    /// Tells the owners of the frames that are still missing that they are wanted.
    fn tell_wanted(&self, first: Pfn, end: Pfn) {
        let missing = (first.0..end.0)
            .map(Pfn)
            .filter(|&pfn| !self.has(pfn) && !self.zone.tables.blocks.is_free(pfn));
        for pfn in missing {
            let ops = self
                .zone
                .tables
                .frames
                .state(pfn)
                .owner()
                .and_then(|owner| self.zone.registry.ops(owner));
            // A callback that panics has told nothing.
            let _ = ops.map(|ops| catch_unwind(AssertUnwindSafe(|| ops.wanted(pfn))));
        }
    }

    /// Isolates every frame of the range that is in use, or none.
    fn isolate_rest(&self, first: Pfn, end: Pfn) -> Result<Vec<Isolated<'z>>, Obstacle> {
        let rest = || {
            (first.0..end.0)
                .map(Pfn)
                .filter(|&pfn| !self.has(pfn) && !self.zone.tables.blocks.is_free(pfn))
        };
        let mut cached = None;
        for pfn in rest() {
            match look(self.zone, pfn) {
                Look::Movable => {}
                Look::Cached => cached = Some(pfn),
                Look::Unmovable => return Err(Obstacle::Unmovable(pfn)),
            }
        }
        if let Some(pfn) = cached {
            self.zone.drain_lists_above(0);
            return Err(Obstacle::Busy(pfn));
        }
        rest().map(|pfn| self.zone.isolate(pfn).ok_or(Obstacle::Busy(pfn))).collect()
    }

    /// Moves frames out, a few between two looks at the clock. Those it does not come to are put back.
    fn move_away(
        &mut self,
        mut rest: Vec<Isolated<'z>>,
        mode: Mode,
        deadline: Deadline,
    ) -> Result<(), Obstacle> {
        let zone = self.zone;
        add(&zone.events.compact_isolated, rest.len() as u64);
        let mut room = Room { claim: self, stock: Vec::with_capacity(BATCH), kept: 0, arrived: 0 };
        let (mut moved, mut obstacle) = (0, None);
        while !rest.is_empty() && !matches!(obstacle, Some(Obstacle::NoRoom | Obstacle::OutOfTime))
        {
            let mut batch = rest.split_off(rest.len().saturating_sub(BATCH));
            let done = zone.migrate_pages(&mut batch, &mut room, mode);
            moved += done.migrated;
            obstacle = match batch.first() {
                _ if done.out_of_frames => Some(Obstacle::NoRoom),
                _ if !rest.is_empty() && deadline.has_passed() => Some(Obstacle::OutOfTime),
                Some(busy) => Some(Obstacle::Busy(busy.pfn())),
                None => obstacle,
            };
        }
        drop(room);
        self.moved += moved;
        obstacle.map_or(Ok(()), Err)
    }

    fn place(&self, pfn: Pfn) -> (usize, u64) {
        let at = pfn.0 - self.first.0;
        (at as usize / 64, 1 << (at % 64))
    }

    fn contains(&self, pfn: Pfn) -> bool {
        (self.first.0..self.first.0 + self.frames).contains(&pfn.0)
    }

    fn has(&self, pfn: Pfn) -> bool {
        let (word, bit) = self.place(pfn);
        self.ours[word] & bit != 0
    }

    fn mark(&mut self, pfn: Pfn) {
        let (word, bit) = self.place(pfn);
        self.ours[word] |= bit;
        self.held += 1;
    }

    /// Makes one block of a complete claim. `None`, with everything given back, when somebody else looked at one of its frames just now.
    pub(crate) fn join(mut self, order: Order) -> Option<Pfn> {
        assert!(
            self.held == self.frames && self.frames == order.frames(),
            "a claim is joined before it is complete"
        );
        self.ours.clear();
        let frames = &self.zone.tables.frames;
        let alone = give_up(self.zone, (self.first.0..self.first.0 + self.frames).map(Pfn));
        if alone.len() < self.frames as usize {
            self.zone.free_frames(alone, |_| {});
            return None;
        }
        // Without references they are nobody's but ours, and the maps have them as taken.
        frames.change(self.first, State::CACHED, State::used(order));
        alone[1..].iter().for_each(|&pfn| frames.change(pfn, State::CACHED, State::INSIDE));
        Some(self.first)
    }

    /// The frames of a complete claim, each in use with one reference, are the caller's.
    pub(crate) fn keep(mut self) {
        assert!(self.held == self.frames, "a claim is kept before it is complete");
        self.ours.clear();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let ours = (0..self.ours.len() as u32 * 64)
            .filter(|&at| self.ours[at as usize / 64] >> (at % 64) & 1 == 1);
        let frames: Vec<Pfn> = ours.map(|at| self.first.plus(at)).collect();
        release(self.zone, frames);
        if let Some(mut buddy) = self.zone.buddy.lock_sound() {
            buddy.reserved -= u64::from(self.frames - self.held);
        }
    }
}

/// Gives back single frames that are in use with one reference, straight to the buddy lists.
pub(crate) fn release(zone: &Zone, frames: impl IntoIterator<Item = Pfn>) {
    let mut frames = frames.into_iter().peekable();
    // In turns, so that nobody waits long for the zone lock.
    while frames.peek().is_some() {
        let turn = give_up(zone, frames.by_ref().take(TURN));
        zone.free_frames(turn, |_| {});
    }
}

/// Gives the references of frames back and returns those that were the last ones: these frames are nobody's now.
fn give_up(zone: &Zone, frames: impl Iterator<Item = Pfn>) -> Vec<Pfn> {
    let last = |&pfn: &Pfn| match zone.tables.frames.put(pfn) {
        Ok(put) => put != Put::Shared,
        // Already unwinding: a second panic would abort, and the frame is merely lost.
        Err(_) if std::thread::panicking() => false,
        Err(error) => panic!("{error}"),
    };
    frames.filter(last).collect()
}

/// The parts of a range that lie in one pageblock each.
pub(crate) fn chunks(first: Pfn, frames: u32) -> impl Iterator<Item = (Pfn, Pfn)> {
    let end = first.plus(frames);
    std::iter::successors(Some(first), move |at| Some(at.block().first().plus(PAGEBLOCK_FRAMES)))
        .take_while(move |&at| at < end)
        .map(move |at| (at, end.min(at.block().first().plus(PAGEBLOCK_FRAMES))))
}

/// What a frame that is not free is to a claim.
enum Look {
    Movable,
    Cached,
    Unmovable,
}

fn look(zone: &Zone, pfn: Pfn) -> Look {
    let state = zone.tables.frames.state(pfn);
    match (state.kind(), state.order()) {
        // Isolated by somebody else, it may be movable again or free in a moment.
        (Some(Kind::Used), Some(Order::SINGLE)) if zone.can_move(state) || state.is_isolated() => {
            Look::Movable
        }
        // Frozen, it is free or has an owner in a moment.
        (Some(Kind::Cached | Kind::Free | Kind::Frozen), _) => Look::Cached,
        _ => Look::Unmovable,
    }
}

/// The first frame of `first..end`, which lies in one pageblock, that nobody can move.
pub(crate) fn first_unmovable(zone: &Zone, first: Pfn, end: Pfn) -> Option<Pfn> {
    let frames = if zone.is_committed(first) { first.0..end.0 } else { 0..0 };
    let mut taken = frames.map(Pfn).filter(|&pfn| !zone.tables.blocks.is_free(pfn));
    taken.find(|&pfn| matches!(look(zone, pfn), Look::Unmovable))
}

/// Where the content of claimed frames moves to: anywhere outside of the claim. The old frames stay with the claim.
struct Room<'c, 'z> {
    claim: &'c mut Claim<'z>,
    /// Free frames taken and not used yet, without references.
    stock: Vec<Pfn>,
    /// Frames that came to the claim.
    kept: u64,
    /// Frames that were on the move and have arrived.
    arrived: u64,
}

impl Room<'_, '_> {
    fn refill(&mut self) {
        let zone = self.claim.zone;
        let mut frames = [Pfn(0); BATCH];
        loop {
            let Some(mut buddy) = zone.buddy.lock_sound() else { return };
            let count = buddy.take_singles(&zone.tables, MigrateType::Movable, &mut frames);
            buddy.moving += count as u64;
            drop(buddy);
            add(&zone.events.free_scanned, count as u64);
            for &pfn in frames[..count].iter().rev() {
                // Freed by its owner meanwhile, a frame of the claim is no place to move to: it is what we want.
                if self.claim.contains(pfn) {
                    self.keep(pfn, 1);
                } else {
                    self.stock.push(pfn);
                }
            }
            if count == 0 || !self.stock.is_empty() {
                return;
            }
        }
    }

    fn keep(&mut self, pfn: Pfn, arrived: u64) {
        self.claim.zone.tables.frames.change(pfn, State::CACHED, State::used(Order::SINGLE));
        self.claim.mark(pfn);
        self.kept += 1;
        self.arrived += arrived;
    }
}

impl<'z> Targets<'z> for Room<'_, 'z> {
    fn next(&mut self, _: Pfn) -> Option<Target<'z>> {
        if self.stock.is_empty() {
            self.refill();
        }
        Some(Target::from_cached(self.claim.zone, self.stock.pop()?, Charge::OnTheMove))
    }

    fn vacated(&mut self, old: Vacated<'z>) {
        let (pfn, arrived) = old.retire();
        match pfn {
            Some(pfn) => self.keep(pfn, arrived),
            // Somebody else still looks at it; it is freed when he is done, and the next pass finds it.
            None => self.arrived += arrived,
        }
    }
}

impl Drop for Room<'_, '_> {
    fn drop(&mut self) {
        let (kept, unused) = (self.kept, self.stock.len() as u64);
        let arrived = self.arrived + unused;
        self.claim.zone.free_frames(self.stock.drain(..), |buddy| {
            buddy.reserved -= kept;
            buddy.moving -= arrived;
        });
    }
}
