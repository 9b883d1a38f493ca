//! The word a page is stored as.

use frames::ChainId;
use zsmalloc::Handle;

/// A page's stored form in 8 bytes. All zero is the empty page, so fresh memory is a table of empty pages.
///
/// ```text
///  63  61 60        56 55                                            0
/// +------+------------+----------------------------------------------+
/// | kind | 0          | handle (56 bits), or a 32-bit fill pattern,  |
/// |      |            | or a chain (31 bits)                         |
/// +------+------------+----------------------------------------------+
///  kind: 0 empty, 1 same-filled, 2 pattern object, 3 compressed object, 4 raw object, 5 hot, 6 reserved
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotEntry(u64);

/// What a [`SlotEntry`] word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Reads as zeros; never written, or given back.
    Empty,
    /// This pattern, 1024 times.
    Same(u32),
    /// An 8-byte object holds a pattern that repeats 512 times.
    Pattern(Handle),
    /// The object holds the codec's blob.
    Compressed(Handle),
    /// The object holds the page.
    Raw(Handle),
    /// The chain holds the page. It belongs to the owner of the word: [`Pages`](crate::Pages)
    /// neither makes nor reads such a word.
    Hot(ChainId),
    /// Reads as zeros. Room for one frame is reserved for the owner of the word:
    /// [`Pages`](crate::Pages) makes no such word and gives up no room.
    Reserved,
    /// Bits that were never written by this type.
    Invalid,
}

const KIND_SHIFT: u32 = 61;
const PAYLOAD: u64 = (1 << 56) - 1;

impl SlotEntry {
    /// The page nobody wrote.
    pub const EMPTY: Self = Self(0);
    /// The page of zeros that was written.
    pub const ZEROS: Self = Self(1 << KIND_SHIFT);
    /// The page of zeros for which room is reserved.
    pub const RESERVED: Self = Self(6 << KIND_SHIFT);

    /// The word for this form.
    #[must_use]
    pub fn new(form: EntryKind) -> Self {
        let (kind, payload) = match form {
            EntryKind::Empty => (0, 0),
            EntryKind::Same(pattern) => (1, u64::from(pattern)),
            EntryKind::Pattern(handle) => (2, handle.to_bits()),
            EntryKind::Compressed(handle) => (3, handle.to_bits()),
            EntryKind::Raw(handle) => (4, handle.to_bits()),
            EntryKind::Hot(chain) => (5, u64::from(chain.to_bits())),
            EntryKind::Reserved => (6, 0),
            EntryKind::Invalid => (7, 0),
        };
        Self(kind << KIND_SHIFT | payload & PAYLOAD)
    }

    /// What the word says.
    #[must_use]
    pub fn kind(self) -> EntryKind {
        let payload = self.0 & PAYLOAD;
        let handle = Handle::from_bits(payload);
        match self.0 >> KIND_SHIFT {
            0 if self.0 == 0 => EntryKind::Empty,
            1 => u32::try_from(payload).map_or(EntryKind::Invalid, EntryKind::Same),
            2 => EntryKind::Pattern(handle),
            3 => EntryKind::Compressed(handle),
            4 => EntryKind::Raw(handle),
            5 => u32::try_from(payload)
                .ok()
                .filter(|bits| bits >> 31 == 0)
                .map_or(EntryKind::Invalid, |bits| EntryKind::Hot(ChainId::from_bits(bits))),
            6 if payload == 0 => EntryKind::Reserved,
            _ => EntryKind::Invalid,
        }
    }

    /// The object behind the word, if there is one.
    #[must_use]
    pub fn handle(self) -> Option<Handle> {
        match self.kind() {
            EntryKind::Pattern(handle) | EntryKind::Compressed(handle) | EntryKind::Raw(handle) => {
                Some(handle)
            }
            EntryKind::Empty
            | EntryKind::Same(_)
            | EntryKind::Hot(_)
            | EntryKind::Reserved
            | EntryKind::Invalid => None,
        }
    }

    /// Whether the page reads as zeros, as its word alone tells.
    #[must_use]
    pub fn is_zeros(self) -> bool {
        matches!(self.kind(), EntryKind::Empty | EntryKind::Same(0) | EntryKind::Reserved)
    }

    /// Whether the page is one pattern repeated: the kernel's `same_pages`.
    #[must_use]
    pub fn is_same_filled(self) -> bool {
        matches!(self.kind(), EntryKind::Same(_) | EntryKind::Pattern(_) | EntryKind::Reserved)
    }

    /// Whether the page takes a frame of its own: the kernel's `huge_pages`.
    #[must_use]
    pub fn is_huge(self) -> bool {
        matches!(self.kind(), EntryKind::Raw(_))
    }

    /// The chain behind the word, if the page is hot.
    #[must_use]
    pub fn chain(self) -> Option<ChainId> {
        if let EntryKind::Hot(chain) = self.kind() { Some(chain) } else { None }
    }

    /// The word with these bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits to keep in a table.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }
}

const _: () = assert!(size_of::<SlotEntry>() == 8);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_form_reads_back(bits in 1u64..=PAYLOAD, pattern: u32) {
            let handle = Handle::from_bits(bits);
            let chain = EntryKind::Hot(ChainId::from_bits(pattern));
            for form in [chain, EntryKind::Empty, EntryKind::Reserved, EntryKind::Same(pattern), EntryKind::Pattern(handle), EntryKind::Compressed(handle), EntryKind::Raw(handle), EntryKind::Invalid] {
                prop_assert_eq!(SlotEntry::from_bits(SlotEntry::new(form).to_bits()).kind(), form);
            }
        }

        /// A flipped bit in the kind or in a pattern's upper half never passes for a form with other contents than its own.
        #[test]
        fn foreign_bits_are_invalid_or_read_back(bits: u64) {
            let form = SlotEntry::from_bits(bits).kind();
            let again = SlotEntry::new(form).kind();
            prop_assert_eq!(form, again);
        }
    }

    #[test]
    fn fresh_memory_is_empty_and_zeros_are_not() {
        assert_eq!(SlotEntry::from_bits(0).kind(), EntryKind::Empty);
        assert_eq!(SlotEntry::ZEROS.kind(), EntryKind::Same(0));
        assert_eq!(SlotEntry::from_bits(5).kind(), EntryKind::Invalid);
        assert_eq!(SlotEntry::RESERVED.kind(), EntryKind::Reserved);
        assert_eq!(
            SlotEntry::from_bits(SlotEntry::RESERVED.to_bits() | 1).kind(),
            EntryKind::Invalid
        );
        assert_eq!(SlotEntry::default(), SlotEntry::EMPTY);
    }
}
