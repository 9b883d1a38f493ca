//! The state word of a frame.

use std::num::NonZeroU8;

use crate::lru::LruState;
use crate::units::Order;

/// What a frame is, in one word. While it is in use, which is when several threads may change it, it changes by compare-and-swap only.
///
/// ```text
///  31    28 27    24 23  22  21  20  19        12 11              0
/// +--------+--------+---+---+---+---+------------+-----------------+
/// | kind   | order  | I | L | place | owner      | references      |
/// +--------+--------+---+---+---+---+------------+-----------------+
///  I = isolated by migration, L = page lock, place = on which LRU list: 0 none, 1 inactive, 2 inactive and referenced, 3 active
/// ```
/// The owner is the number under which whoever has the frame registered its [`MovableOps`](crate::MovableOps); a frame with an owner is
/// movable, if anything is in its zone, and one without is not (R-003). Owner, marks and references change together or not at all, so no order of looking at them can be
/// wrong (S-07), and a frame that its owner let go of while it was isolated shows as "isolated, no owner" (R-057).
///
/// | kind | name | order | references | who may change it |
/// |---|---|---|---|---|
/// | 0 | inside: not online, or not the first frame of its block | 0 | 0 | holder of the zone lock |
/// | 1 | free: first frame of a block on a buddy list | its order | 0 | holder of the zone lock |
/// | 2 | cached: on a per-CPU list | 0 | 0 | holder of the list's lock |
/// | 3 | used: first frame of a block that has an owner | its order | 1 or more | owners, by compare-and-swap |
/// | 4 | frozen: in use, not published yet (the kernel's frozen reference count) | 0 | 1 | holder of the reference |
/// | 5 | retired: its memory has failed, and it is out of use for good | 0 | 0 | nobody |
///
/// Nobody can take another reference to a frozen frame, isolate it or adopt it: its owner publishes it, or gives it back.
///
/// Zero is "inside", so a table of untouched descriptors is right as the OS delivers it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u32);

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

const KIND_SHIFT: u32 = 28;
const ORDER_SHIFT: u32 = 24;
const ORDER_MASK: u32 = 0xf;
const ISOLATED: u32 = 1 << 23;
const LOCKED: u32 = 1 << 22;
const PLACE_SHIFT: u32 = 20;
const PLACE: u32 = 3 << PLACE_SHIFT;
const OWNER_SHIFT: u32 = 12;
const OWNER: u32 = 0xff << OWNER_SHIFT;
const REFERENCES: u32 = (1 << OWNER_SHIFT) - 1;

/// Names a registered owner of movable frames in one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub(crate) NonZeroU8);

const _: () = assert!(size_of::<State>() == 4 && crate::geometry::MAX_ORDER as u32 <= ORDER_MASK);

impl State {
    pub(crate) const INSIDE: Self = Self(0);
    pub(crate) const CACHED: Self = Self(2 << KIND_SHIFT);
    /// In use by one owner and not published yet.
    pub(crate) const FROZEN: Self = Self(4 << KIND_SHIFT | 1);

    /// Out of use for good.
    pub(crate) const RETIRED: Self = Self(5 << KIND_SHIFT);

    pub(crate) const fn free(order: Order) -> Self {
        Self(1 << KIND_SHIFT | (order.get() as u32) << ORDER_SHIFT)
    }

    /// In use by one owner.
    pub(crate) const fn used(order: Order) -> Self {
        Self(3 << KIND_SHIFT | (order.get() as u32) << ORDER_SHIFT | 1)
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// `None` for a value this code never writes.
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

    /// Whose it is, by number; `None` when nobody can be asked to move it.
    pub(crate) const fn owner(self) -> Option<OwnerId> {
        // Eight bits, as they were stored.
        match NonZeroU8::new((self.0 >> OWNER_SHIFT) as u8) {
            Some(number) => Some(OwnerId(number)),
            None => None,
        }
    }

    pub(crate) const fn is_isolated(self) -> bool {
        self.0 & ISOLATED != 0
    }

    /// On which LRU list it is.
    pub(crate) const fn lru_state(self) -> LruState {
        match self.0 >> PLACE_SHIFT & 3 {
            0 => LruState::Off,
            1 => LruState::Inactive,
            2 => LruState::Referenced,
            _ => LruState::Active,
        }
    }

    /// With another place. Who may change it: see [`crate::lru`].
    pub(crate) const fn with_lru_state(self, place: LruState) -> Self {
        Self(self.0 & !PLACE | (place as u32) << PLACE_SHIFT)
    }

    /// One owner more; `None` when there is none yet, or when no more can be counted.
    pub(crate) const fn with_reference(self) -> Option<Self> {
        match self.references() {
            0 | REFERENCES => None,
            _ => Some(Self(self.0 + 1)),
        }
    }

    /// One owner less; `None` when that would be the last one gone or there is none.
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

    /// Owned by `owner` from here on. Only for a single frame in use that has no owner yet.
    pub(crate) const fn owned_by(self, owner: OwnerId) -> Option<Self> {
        match (self.owner(), self.kind()) {
            (None, Some(Kind::Used))
                if self.references() > 0 && self.0 >> ORDER_SHIFT & ORDER_MASK == 0 =>
            {
                Some(Self(self.0 | (owner.0.get() as u32) << OWNER_SHIFT))
            }
            _ => None,
        }
    }

    /// A frame that was frozen, as its owner publishes it.
    pub(crate) const fn published(owner: OwnerId) -> Self {
        Self(Self::used(Order::SINGLE).0 | (owner.0.get() as u32) << OWNER_SHIFT)
    }

    /// Nobody's from here on who could be asked to move it.
    pub(crate) const fn without_owner(self) -> Self {
        Self(self.0 & !OWNER)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = |on: bool, letter: &'static str| if on { letter } else { "" };
        write!(
            f,
            "{:?} {:?} refs {} {}{}{}",
            self.kind(),
            self.order(),
            self.references(),
            mark(self.is_isolated(), "I"),
            mark(self.owner().is_some(), "M"),
            mark(self.is_locked(), "L"),
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_as_it_was_made() {
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
            assert_eq!(State::from_bits(used.bits()), used);
        }
        assert_eq!(State::INSIDE.kind(), Some(Kind::Inside));
        assert_eq!(State::CACHED.kind(), Some(Kind::Cached));
        assert_eq!((State::FROZEN.kind(), State::FROZEN.references()), (Some(Kind::Frozen), 1));
        assert_eq!((State::RETIRED.kind(), State::RETIRED.references()), (Some(Kind::Retired), 0));
        assert_eq!(State::from_bits(u32::MAX).kind(), None);
    }

    /// R-003, in our form: each mark is its own bit, and setting one changes nothing else.
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
            for place in [LruState::Off, LruState::Inactive, LruState::Referenced, LruState::Active]
            {
                assert_eq!(all.with_lru_state(place).lru_state(), place);
                assert_eq!(all.with_lru_state(place).with_lru_state(LruState::Off), all);
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
            "a frozen frame is not adopted"
        );
        let published = State::published(OwnerId(NonZeroU8::MIN));
        assert_eq!(plain.owned_by(OwnerId(NonZeroU8::MIN)), Some(published));
    }

    /// R-008: no reference can be taken on a frame that has none, nor one too many to count.
    #[test]
    fn references_stop_at_both_ends() {
        assert_eq!(State::INSIDE.with_reference(), None, "a frame without references gets none");
        assert_eq!(State::used(Order::SINGLE).without_reference(), None);
        let full = State::from_bits(State::used(Order::SINGLE).bits() | REFERENCES);
        assert_eq!(full.with_reference(), None);
        let two = State::used(Order::SINGLE).with_reference().expect("one owner can become two");
        assert_eq!(two.without_reference(), Some(State::used(Order::SINGLE)));
    }
}
