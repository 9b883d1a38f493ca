//! The state word of a frame.

use std::num::NonZeroU8;

use crate::units::Order;

/// What a frame is, in one word.
///
/// ```text
///  31    28 27    24 23  22  21 20 19        12 11              0
/// +--------+--------+---+---+-----+------------+-----------------+
/// | kind   | order  | I | L | lru | owner      | references      |
/// +--------+--------+---+---+-----+------------+-----------------+
///  I = isolated by migration, L = page lock,
///  lru = which LRU list it is on: 0 none, 1 inactive, 2 inactive and referenced, 3 active
/// ```
/// The owner is the number of a registered [`MovableOps`](crate::MovableOps). A frame with an owner
/// is movable, if its zone allows movement at all; a frame without one is not (R-003). Owner, flags
/// and references change together or not at all, so a reader never sees an inconsistent combination
/// (S-07). A frame whose owner released it while it was isolated reads as "isolated, no owner"
/// (R-057).
///
/// | kind | name | order | references | may be changed by |
/// |---|---|---|---|---|
/// | 0 | inside: offline, or not the first frame of its block | 0 | 0 | holder of the zone lock |
/// | 1 | free: first frame of a block on a buddy list | its order | 0 | holder of the zone lock |
/// | 2 | cached: on a per-CPU list | 0 | 0 | holder of the list's lock |
/// | 3 | used: first frame of a block in use | its order | 1 or more | holders of references |
/// | 4 | frozen: in use, not published yet | 0 | 1 | holder of the reference |
/// | 5 | retired: its memory has failed, and it is never used again | 0 | 0 | no thread |
///
/// Holders of references change it by compare-and-swap, since there may be several. No thread can
/// take another reference to a frozen frame (the kernel's frozen reference count), isolate it or
/// set its owner: its holder publishes it or frees it.
///
/// Zero is "inside", so descriptors that were never touched are valid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u32);

/// The kind field of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Inside,
    Free,
    Cached,
    Used,
    Frozen,
    Retired,
}

/// The list a frame is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LruState {
    /// On no list.
    Off,
    /// On the inactive list.
    Inactive,
    /// On the inactive list, and accessed since it was added.
    Referenced,
    /// On the active list.
    Active,
}

const KIND_SHIFT: u32 = 28;
const ORDER_SHIFT: u32 = 24;
const ORDER_MASK: u32 = 0xf;
const ISOLATED: u32 = 1 << 23;
const LOCKED: u32 = 1 << 22;
const LRU_SHIFT: u32 = 20;
const LRU: u32 = 3 << LRU_SHIFT;
const OWNER_SHIFT: u32 = 12;
const OWNER: u32 = 0xff << OWNER_SHIFT;
const REFERENCES: u32 = (1 << OWNER_SHIFT) - 1;

/// The number of a registered owner of movable frames in one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub(crate) NonZeroU8);

const _: () = assert!(size_of::<State>() == 4 && crate::geometry::MAX_ORDER as u32 <= ORDER_MASK);

impl State {
    pub(crate) const INSIDE: Self = Self(0);
    pub(crate) const CACHED: Self = Self(2 << KIND_SHIFT);
    /// In use with one reference, and not published yet.
    pub(crate) const FROZEN: Self = Self(4 << KIND_SHIFT | 1);
    pub(crate) const RETIRED: Self = Self(5 << KIND_SHIFT);

    pub(crate) const fn free(order: Order) -> Self {
        Self(1 << KIND_SHIFT | (order.get() as u32) << ORDER_SHIFT)
    }

    /// Returns the state of a block in use with one reference and no owner.
    pub(crate) const fn used(order: Order) -> Self {
        Self(3 << KIND_SHIFT | (order.get() as u32) << ORDER_SHIFT | 1)
    }

    /// Returns the kind, or `None` for a value that this code never writes.
    pub(crate) const fn kind(self) -> Option<Kind> {
        match self.0 >> KIND_SHIFT {
            0 => Some(Kind::Inside),
            1 => Some(Kind::Free),
            2 => Some(Kind::Cached),
            3 => Some(Kind::Used),
            4 => Some(Kind::Frozen),
            5 => Some(Kind::Retired),
            _ => None,
        }
    }

    pub(crate) const fn order(self) -> Option<Order> {
        Order::new((self.0 >> ORDER_SHIFT & ORDER_MASK) as u8)
    }

    pub(crate) const fn references(self) -> u32 {
        self.0 & REFERENCES
    }

    pub(crate) const fn is_locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    /// Returns the owner, or `None` when the frame is not movable.
    pub(crate) fn owner(self) -> Option<OwnerId> {
        // The owner field has eight bits.
        NonZeroU8::new((self.0 >> OWNER_SHIFT) as u8).map(OwnerId)
    }

    pub(crate) const fn is_isolated(self) -> bool {
        self.0 & ISOLATED != 0
    }

    pub(crate) const fn lru_state(self) -> LruState {
        match self.0 >> LRU_SHIFT & 3 {
            0 => LruState::Off,
            1 => LruState::Inactive,
            2 => LruState::Referenced,
            _ => LruState::Active,
        }
    }

    /// Returns the state with another LRU list. For the rules see [`Lru`](crate::Lru).
    pub(crate) const fn with_lru_state(self, lru_state: LruState) -> Self {
        Self(self.0 & !LRU | (lru_state as u32) << LRU_SHIFT)
    }

    /// Returns the state with one more reference; `None` without a reference, or at the maximum.
    pub(crate) const fn with_reference(self) -> Option<Self> {
        match self.references() {
            0 | REFERENCES => None,
            _ => Some(Self(self.0 + 1)),
        }
    }

    /// Returns the state with one reference less, or `None` when none would remain.
    pub(crate) const fn without_reference(self) -> Option<Self> {
        if self.references() > 1 { Some(Self(self.0 - 1)) } else { None }
    }

    pub(crate) const fn locked(self) -> Self {
        Self(self.0 | LOCKED)
    }

    pub(crate) const fn unlocked(self) -> Self {
        Self(self.0 & !LOCKED)
    }

    pub(crate) const fn isolated(self) -> Self {
        Self(self.0 | ISOLATED)
    }

    pub(crate) const fn not_isolated(self) -> Self {
        Self(self.0 & !ISOLATED)
    }

    /// Returns the state with `owner`; `None` unless it is a single frame in use without an owner.
    pub(crate) fn owned_by(self, owner: OwnerId) -> Option<Self> {
        let is_single = self.kind() == Some(Kind::Used) && self.order() == Some(Order::SINGLE);
        (is_single && self.references() > 0 && self.owner().is_none())
            .then_some(Self(self.0 | u32::from(owner.0.get()) << OWNER_SHIFT))
    }

    /// Returns the state of a frozen frame after its holder publishes it with an owner.
    pub(crate) const fn published(owner: OwnerId) -> Self {
        Self(Self::used(Order::SINGLE).0 | (owner.0.get() as u32) << OWNER_SHIFT)
    }

    /// Returns the state without an owner: the frame is not movable.
    pub(crate) const fn without_owner(self) -> Self {
        Self(self.0 & !OWNER)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, order, references) = (self.kind(), self.order(), self.references());
        let (owner, isolated, locked) = (self.owner(), self.is_isolated(), self.is_locked());
        write!(f, "{kind:?} {order:?}, references: {references}, owner: {owner:?}, ")?;
        write!(f, "isolated: {isolated}, locked: {locked}")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip() {
        for order in Order::SINGLE.and_larger() {
            let free = State::free(order);
            assert_eq!(
                (free.kind(), free.order(), free.references()),
                (Some(Kind::Free), Some(order), 0)
            );
            let used = State::used(order);
            assert_eq!(
                (used.kind(), used.order(), used.references()),
                (Some(Kind::Used), Some(order), 1)
            );
        }
        assert_eq!(State::INSIDE.kind(), Some(Kind::Inside));
        assert_eq!(State::CACHED.kind(), Some(Kind::Cached));
        assert_eq!((State::FROZEN.kind(), State::FROZEN.references()), (Some(Kind::Frozen), 1));
        assert_eq!((State::RETIRED.kind(), State::RETIRED.references()), (Some(Kind::Retired), 0));
        assert_eq!(State(u32::MAX).kind(), None);
    }

    /// R-003, adapted: each flag is its own bit, and setting one changes nothing else.
    #[test]
    fn r003_marks_do_not_disturb_each_other_or_the_count() {
        let plain = State::used(Order::SINGLE);
        for number in [1, 2, 128, 255].map(|number| NonZeroU8::new(number).expect("not zero")) {
            let owned = plain.owned_by(OwnerId(number)).expect("in use and without owner");
            let all = owned.locked().isolated();
            assert!(all.is_locked() && all.is_isolated());
            assert_eq!(
                (all.kind(), all.references(), all.owner()),
                (Some(Kind::Used), 1, Some(OwnerId(number)))
            );
            assert_eq!(all.unlocked().not_isolated(), owned);
            assert_eq!(owned.without_owner(), plain);
            for lru_state in
                [LruState::Off, LruState::Inactive, LruState::Referenced, LruState::Active]
            {
                assert_eq!(all.with_lru_state(lru_state).lru_state(), lru_state);
                assert_eq!(all.with_lru_state(lru_state).with_lru_state(LruState::Off), all);
            }
            assert_eq!(owned.owned_by(OwnerId(NonZeroU8::MIN)), None, "one owner at a time");
        }
        assert_eq!(plain.owner(), None);
        assert_eq!(
            State::CACHED.owned_by(OwnerId(NonZeroU8::MIN)),
            None,
            "a free frame has no owner"
        );
        assert_eq!(
            State::FROZEN.owned_by(OwnerId(NonZeroU8::MIN)),
            None,
            "a frozen frame gets no owner"
        );
        let published = State::published(OwnerId(NonZeroU8::MIN));
        assert_eq!(plain.owned_by(OwnerId(NonZeroU8::MIN)), Some(published));
    }

    /// R-008: a frame without references gets none, and the count does not overflow.
    #[test]
    fn references_stop_at_both_ends() {
        assert_eq!(State::INSIDE.with_reference(), None, "a frame without references gets none");
        assert_eq!(State::used(Order::SINGLE).without_reference(), None);
        let full = State(State::used(Order::SINGLE).0 | REFERENCES);
        assert_eq!(full.with_reference(), None);
        let two =
            State::used(Order::SINGLE).with_reference().expect("one reference can become two");
        assert_eq!(two.without_reference(), Some(State::used(Order::SINGLE)));
    }
}
