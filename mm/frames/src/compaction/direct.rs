//! Direct compaction: a request for a block waits while one is made.
//!
//! The kernel sweeps the zone until the right block happens to be free, and catches it when it is lucky. Here the range is chosen first, as the one that
//! needs the least to be moved and has nothing in it that cannot be; then just that range is claimed, and nobody else can get it.

use std::time::Duration;

use super::Outcome;
use super::candidates::Candidates;
use super::defer::Turn;
use crate::budget::{Budget, Deadline};
use crate::claim::{Claim, Obstacle};
use crate::events::add;
use crate::geometry::PAGEBLOCK_FRAMES;
use crate::migrate::Mode;
use crate::pageblock::Residence;
use crate::state::Kind;
use crate::units::{BlockIndex, FrameCount, MigrateType, Order, Pfn};
use crate::watermarks::Watermarks;
use crate::zone::Zone;

/// The longest a request waits for its compaction.
const PATIENCE: Duration = Duration::from_millis(50);
/// Ranges tried in one round.
const RANGES: usize = 16;

/// How clearing one range ended.
#[derive(Debug)]
pub(super) enum Attempt {
    Captured(Pfn),
    /// Nothing could be moved.
    InVain,
    /// Something was moved, but not enough.
    Partly,
    /// Another range will not do better.
    Over(Outcome),
}

impl Zone {
    /// Makes a block of this order and takes it.
    pub(crate) fn compact_direct(
        &self,
        order: Order,
        migrate_type: MigrateType,
    ) -> Result<Pfn, Outcome> {
        if !self.is_suitable(order) {
            return Err(Outcome::Skipped);
        }
        let turn = self.deferrals.lock().turn(order);
        match turn {
            Turn::Defer => {
                add(&self.events.deferred, 1);
                return Err(Outcome::Deferred);
            }
            Turn::TryAfresh => self.forget_hints(),
            Turn::Try => {}
        }
        let deadline = Budget::within(PATIENCE).start();
        add(&self.events.stall, 1);
        self.drain_lists_above(0);
        let result = self.capture(order, migrate_type, deadline);
        match result {
            Ok(first) => {
                add(&self.events.success, 1);
                self.deferrals.lock().succeeded(order);
                self.adopt_type(first, order, migrate_type);
            }
            Err(_) => {
                add(&self.events.fail, 1);
                self.deferrals.lock().failed(order);
            }
        }
        result
    }

    /// Whether there are so many free frames that a block of this order can be expected: the lowest watermark, the block, and as many to move about.
    ///
    /// What is reserved counts as free here. Content may move there, since a frame on the move counts
    /// against no limit, and the claim itself refuses a block that the reservations leave no room for.
    pub(crate) fn is_suitable(&self, order: Order) -> bool {
        let Some(buddy) = self.buddy.lock_sound() else { return false };
        let usable = self.usable(buddy.frame_limit().map(FrameCount));
        usable.0.saturating_sub(buddy.charged)
            >= Watermarks::of(usable).min.0 + 2 * u64::from(order.frames())
    }

    pub(crate) fn capture(
        &self,
        order: Order,
        migrate_type: MigrateType,
        deadline: Deadline,
    ) -> Result<Pfn, Outcome> {
        let mut candidates = Candidates::new(self, order, migrate_type);
        loop {
            let round = candidates.next(deadline);
            if round.is_empty() {
                return Err(if deadline.has_passed() {
                    Outcome::OutOfTime
                } else {
                    Outcome::NoSuitable
                });
            }
            let mut ranges = Vec::new();
            for &block in round {
                if deadline.has_passed() {
                    return Err(Outcome::OutOfTime);
                }
                let costs = self.range_costs(block, order);
                if costs.iter().all(Option::is_none) {
                    self.set_hint(block);
                }
                let firsts = (0..).map(|at: u32| block.first().plus(at * order.frames()));
                ranges.extend(
                    costs.iter().zip(firsts).filter_map(|(cost, first)| Some(((*cost)?, first))),
                );
            }
            ranges.sort_unstable();
            ranges.truncate(RANGES);
            for (_, first) in ranges {
                if deadline.has_passed() {
                    return Err(Outcome::OutOfTime);
                }
                match self.clear(first, order, deadline) {
                    Attempt::Captured(first) => return Ok(first),
                    Attempt::InVain if order >= Order::PAGEBLOCK => self.set_hint(first.block()),
                    Attempt::InVain | Attempt::Partly => {}
                    Attempt::Over(outcome) => return Err(outcome),
                }
            }
        }
    }

    fn clear(&self, first: Pfn, order: Order, deadline: Deadline) -> Attempt {
        if order > Order::PAGEBLOCK {
            return self.clear_pair(first, order, deadline);
        }
        self.clear_present(first, order, deadline)
    }

    /// A half without memory gets it, and has none again when that was in vain.
    pub(super) fn clear_pair(&self, first: Pfn, order: Order, deadline: Deadline) -> Attempt {
        let mut bare = Vec::new();
        for half in [first.block(), BlockIndex(first.block().0 + 1)] {
            let Some(mut buddy) = self.buddy.lock_sound() else {
                return Attempt::Over(Outcome::Skipped);
            };
            // At most the pageblock above the high-water mark: its other half is in use.
            buddy.bring_online(&self.tables, half.0 + 1);
            let has_memory = self.tables.blocks.facts(half).residence == Residence::Committed;
            let present = buddy.make_present(&self.tables, half);
            drop(buddy);
            if present.is_err() {
                bare.into_iter().for_each(|half| self.release_if_idle(half));
                return Attempt::InVain;
            }
            bare.extend((!has_memory).then_some(half));
        }
        let attempt = self.clear_present(first, order, deadline);
        if !matches!(attempt, Attempt::Captured(_)) {
            bare.into_iter().for_each(|half| self.release_if_idle(half));
        }
        attempt
    }

    fn clear_present(&self, first: Pfn, order: Order, deadline: Deadline) -> Attempt {
        let mut claim = match Claim::begin(self, first, order.frames()) {
            Ok(claim) => claim,
            Err(_) => return Attempt::Over(Outcome::Skipped),
        };
        let result = claim.complete(Mode::SyncLight, deadline);
        let moved = claim.moved();
        match result {
            Ok(()) => claim.join(order).map_or(Attempt::Partly, Attempt::Captured),
            Err(Obstacle::OutOfTime) => Attempt::Over(Outcome::OutOfTime),
            Err(_) if moved > 0 => Attempt::Partly,
            Err(_) => Attempt::InVain,
        }
    }

    /// How many frames have to be moved to clear each range of this order in a pageblock, or in a pair of them; `None` where that is not possible.
    fn range_costs(&self, block: BlockIndex, order: Order) -> Vec<Option<u32>> {
        if order <= Order::PAGEBLOCK {
            return self.costs(block, order);
        }
        let halves =
            [block, BlockIndex(block.0 + 1)].map(|half| self.costs(half, Order::PAGEBLOCK)[0]);
        vec![halves.into_iter().sum()]
    }

    /// As above, for orders up to that of a pageblock.
    pub(crate) fn costs(&self, block: BlockIndex, order: Order) -> Vec<Option<u32>> {
        let mut costs = vec![Some(0); (PAGEBLOCK_FRAMES >> order.get()) as usize];
        let facts = self.tables.blocks.facts(block);
        if facts.isolated || facts.residence == Residence::Releasing {
            costs.fill(None);
        }
        let mut offset = if facts.residence == Residence::Committed { 0 } else { PAGEBLOCK_FRAMES };
        while offset < PAGEBLOCK_FRAMES {
            let pfn = block.first().plus(offset);
            let state = self.tables.frames.state(pfn);
            let whole = state.order().unwrap_or(Order::SINGLE);
            let cost = match state.kind() {
                Some(Kind::Free) => Some(0),
                // The upper half of a free pair.
                _ if self.tables.blocks.is_free(pfn) => Some(0),
                Some(Kind::Cached) => Some(1),
                Some(Kind::Used)
                    if whole == Order::SINGLE && self.can_move(state) && !state.is_locked() =>
                {
                    Some(1)
                }
                _ => None,
            };
            let end = (offset + whole.frames()).min(PAGEBLOCK_FRAMES);
            for range in
                &mut costs[(offset >> order.get()) as usize..=((end - 1) >> order.get()) as usize]
            {
                *range = range.zip(cost).map(|(sum, cost)| sum + cost);
            }
            offset = end;
        }
        costs
    }

    /// A whole pageblock that changed hands is of its new user's type from here on.
    fn adopt_type(&self, first: Pfn, order: Order, migrate_type: MigrateType) {
        if order < Order::PAGEBLOCK {
            return;
        }
        let Some(mut buddy) = self.buddy.lock_sound() else { return };
        for block in
            (0..order.frames() / PAGEBLOCK_FRAMES).map(|half| BlockIndex(first.block().0 + half))
        {
            buddy.set_type(&self.tables, block, migrate_type);
        }
    }

    pub(super) fn set_hint(&self, block: BlockIndex) {
        let _zone_lock = self.buddy.lock();
        self.tables.skip.insert(block);
    }

    /// Every pageblock is worth a look again. In short turns with the zone lock.
    pub(super) fn forget_hints(&self) {
        let forget_some = || {
            let _zone_lock = self.buddy.lock();
            self.tables.skip.remove_lowest()
        };
        while forget_some() {}
    }
}
