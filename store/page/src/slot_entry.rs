//! The 8-byte entry that describes a stored page.

use frames::ChainId;
use zsmalloc::Handle;

/// The stored form of a page in 8 bytes. All zeros is the empty page, so a zeroed table is a
/// table of empty pages.
///
/// ```text
///  63  61 60        56 55                                            0
/// +------+------------+----------------------------------------------+
/// | kind | 0          | handle (56 bits), or a 32-bit fill pattern,  |
/// |      |            | or a chain (31 bits)                         |
/// +------+------------+----------------------------------------------+
///  kind: 0 empty, 1 same-filled, 2 pattern object, 3 compressed object, 4 raw object, 5 hot,
///        6 reserved
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotEntry(u64);

/// The decoded content of a [`SlotEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Reads as zeros: never written, or discarded.
    Empty,
    /// The page repeats this pattern 1024 times.
    Same(u32),
    /// An 8-byte object holds a pattern that the page repeats 512 times.
    Pattern(Handle),
    /// The object holds the codec's blob.
    Compressed(Handle),
    /// The object holds the page.
    Raw(Handle),
    /// The chain holds the page uncompressed. The chain belongs to the owner of the entry:
    /// [`Pages`](crate::Pages) neither makes nor reads such an entry.
    Hot(ChainId),
    /// Reads as zeros. One frame is reserved for the owner of the entry: [`Pages`](crate::Pages)
    /// neither makes such an entry nor releases its reservation.
    Reserved,
    /// Bits that [`SlotEntry::new`] sets for no other kind.
    Invalid,
}

const KIND_SHIFT: u32 = 61;
const PAYLOAD: u64 = (1 << 56) - 1;

impl SlotEntry {
    /// The page that was never written.
    pub const EMPTY: Self = Self(0);
    /// The page of zeros that was written.
    pub const ZEROS: Self = Self(1 << KIND_SHIFT);
    /// The page of zeros for which a frame is reserved.
    pub const RESERVED: Self = Self(6 << KIND_SHIFT);

    /// Encodes a form.
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

    /// Decodes the form.
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

    /// Returns the handle of the entry's object, if it has one.
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

    /// Returns whether the entry alone shows that the page reads as zeros.
    #[must_use]
    pub fn is_zeros(self) -> bool {
        matches!(self.kind(), EntryKind::Empty | EntryKind::Same(0) | EntryKind::Reserved)
    }

    /// Returns whether the page repeats one pattern: the kernel's `same_pages`.
    #[must_use]
    pub fn is_same_filled(self) -> bool {
        matches!(self.kind(), EntryKind::Same(_) | EntryKind::Pattern(_) | EntryKind::Reserved)
    }

    /// Returns whether the page takes a frame of its own: the kernel's `huge_pages`.
    #[must_use]
    pub fn is_huge(self) -> bool {
        matches!(self.kind(), EntryKind::Raw(_))
    }

    /// Returns the chain that holds the page, if the page is hot.
    #[must_use]
    pub fn chain(self) -> Option<ChainId> {
        if let EntryKind::Hot(chain) = self.kind() { Some(chain) } else { None }
    }

    /// Returns the entry with these bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the bits to keep in a table.
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

        /// Any bits are invalid or encode exactly what they decode to, so a flipped bit never
        /// yields a form that `new` could not make.
        #[test]
        fn any_bits_are_invalid_or_read_back(bits: u64) {
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
