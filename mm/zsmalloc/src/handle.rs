//! The two packed words: the handle that a client keeps, and the location word it refers to.

use frames::ChainId;

/// Name of an object for its whole life, wherever the object moves. It fits 8 bytes and is never 0.
///
/// ```text
///  63    56 55                    32 31                              0
/// +--------+------------------------+---------------------------------+
/// | 0      | generation             | index                           |
/// +--------+------------------------+---------------------------------+
/// ```
/// A freed object's handle is *stale*: a typed error, also after its index is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(u64);

/// The last generation of an index; the first is 1. An index that reached it is retired.
pub(crate) const MAX_GENERATION: u32 = (1 << 24) - 1;

impl Handle {
    /// Returns the handle of an index and a generation.
    pub(crate) fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    /// Returns the handle as 56 bits.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Builds a handle from its bits. Bits that never were a handle make a stale one.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << 56) - 1))
    }

    /// Returns the index in the handle table.
    pub(crate) fn index(self) -> u32 {
        self.0 as u32
    }

    /// Returns the generation of the index.
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Location word: where an object is, and which generation of its index it belongs to.
///
/// ```text
///  63 62                          39 38     31 30                    0
/// +--+------------------------------+---------+-----------------------+
/// |L | generation (24)              | object  | chain (31)            |
/// +--+------------------------------+---------+-----------------------+
/// ```
/// L = live. Without L, only the generation has a meaning. All zero = never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location(pub(crate) u64);

const LIVE: u64 = 1 << 63;

impl Location {
    /// Returns the word of a live object.
    pub(crate) fn live(chain: ChainId, object: u16, generation: u32) -> Self {
        debug_assert!(object < 256 && generation <= MAX_GENERATION);
        let place = u64::from(object) << 31 | u64::from(chain.to_bits());
        Self(LIVE | u64::from(generation) << 39 | place)
    }

    /// Returns the word of a freed index whose last generation was `generation`.
    pub(crate) fn dead(generation: u32) -> Self {
        Self(u64::from(generation) << 39)
    }

    /// Returns whether the word locates an object.
    pub(crate) fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    /// Returns the generation of the index.
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 39) as u32 & MAX_GENERATION
    }

    /// Returns the object's slot number in its zspage.
    pub(crate) fn object(self) -> u16 {
        (self.0 >> 31) as u16 & 0xff
    }

    /// Returns the object's chain.
    pub(crate) fn chain(self) -> ChainId {
        ChainId::from_bits(self.0 as u32)
    }
}

const _: () = assert!(size_of::<Handle>() == 8 && size_of::<Location>() == 8);

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// R-252, R-253: every field survives packing, also at its extremes.
        #[test]
        fn r252_packed_words_round_trip(index: u32, generation in 0..=MAX_GENERATION, object in 0u16..256, chain in 0u32..1 << 31) {
            let handle = Handle::from_bits(Handle::new(index, generation).to_bits());
            prop_assert_eq!((handle.index(), handle.generation()), (index, generation));
            let chain = ChainId::from_bits(chain);
            let word = Location::live(chain, object, generation);
            prop_assert_eq!((word.is_live(), word.chain(), word.object(), word.generation()), (true, chain, object, generation));
            let dead = Location::dead(generation);
            prop_assert_eq!((dead.is_live(), dead.generation()), (false, generation));
        }
    }

    #[test]
    fn r251_frame_0_object_0_makes_no_zero_word() {
        assert_ne!(Location::live(ChainId::from_bits(0), 0, 1).0, 0);
        assert_ne!(Handle::new(0, 1).to_bits(), 0);
    }
}
