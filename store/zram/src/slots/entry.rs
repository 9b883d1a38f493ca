//! The 8-byte entry of a slot.

use frames::ChainId;
use page::StoredPage;
use zsmalloc::Handle;

/// The content of a slot in 8 bytes. A zeroed table is a table of empty pages.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotEntry(u64);

/// The decoded content of a [`SlotEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// Reads as zeros: never written, or discarded.
    Empty,
    /// The page is stored in the pool, or is a pattern that the entry holds.
    Stored(StoredPage),
    /// The chain holds the page uncompressed: see [`crate::hot`].
    Hot(ChainId),
    /// Reads as zeros. One frame is reserved for the owner of the entry: see [`crate::reserve`].
    Reserved,
    /// Bits that [`SlotEntry::new`] sets for no other kind.
    Invalid,
}

const KIND_SHIFT: u32 = 61;
const PAYLOAD: u64 = (1 << 56) - 1;

impl SlotEntry {
    /// The page that was never written.
    pub(crate) const EMPTY: Self = Self(0);
    /// The page of zeros that was written.
    pub(crate) const ZEROS: Self = Self(1 << KIND_SHIFT);
    /// The page of zeros for which a frame is reserved.
    pub(crate) const RESERVED: Self = Self(6 << KIND_SHIFT);

    pub(crate) fn new(kind: EntryKind) -> Self {
        let (kind, payload) = match kind {
            EntryKind::Empty => (0, 0),
            EntryKind::Stored(StoredPage::Same(pattern)) => (1, u64::from(pattern)),
            EntryKind::Stored(StoredPage::Pattern(handle)) => (2, handle.to_bits()),
            EntryKind::Stored(StoredPage::Compressed(handle)) => (3, handle.to_bits()),
            EntryKind::Stored(StoredPage::Raw(handle)) => (4, handle.to_bits()),
            EntryKind::Hot(chain) => (5, u64::from(chain.to_bits())),
            EntryKind::Reserved => (6, 0),
            EntryKind::Invalid => (7, 0),
        };
        Self(kind << KIND_SHIFT | payload & PAYLOAD)
    }

    pub(crate) fn kind(self) -> EntryKind {
        let payload = self.0 & PAYLOAD;
        let (handle, number) = (Handle::from_bits(payload), u32::try_from(payload).ok());
        let stored = match (self.0 >> KIND_SHIFT, number) {
            (0, _) if self.0 == 0 => return EntryKind::Empty,
            (1, Some(pattern)) => StoredPage::Same(pattern),
            (2, _) => StoredPage::Pattern(handle),
            (3, _) => StoredPage::Compressed(handle),
            (4, _) => StoredPage::Raw(handle),
            (5, Some(bits)) if bits >> 31 == 0 => return EntryKind::Hot(ChainId::from_bits(bits)),
            (6, Some(0)) => return EntryKind::Reserved,
            _ => return EntryKind::Invalid,
        };
        EntryKind::Stored(stored)
    }

    pub(crate) fn handle(self) -> Option<Handle> {
        if let EntryKind::Stored(page) = self.kind() { page.handle() } else { None }
    }

    /// Returns whether the entry alone shows that the page reads as zeros.
    pub(crate) fn is_zeros(self) -> bool {
        matches!(self, Self::EMPTY | Self::ZEROS | Self::RESERVED)
    }

    /// Returns whether the page repeats one pattern: the kernel's `same_pages`.
    pub(crate) fn is_same_filled(self) -> bool {
        matches!(
            self.kind(),
            EntryKind::Stored(StoredPage::Same(_) | StoredPage::Pattern(_)) | EntryKind::Reserved
        )
    }

    /// Returns whether the page takes a frame of its own: the kernel's `huge_pages`.
    pub(crate) fn is_huge(self) -> bool {
        matches!(self.kind(), EntryKind::Stored(StoredPage::Raw(_)))
    }

    pub(crate) fn chain(self) -> Option<ChainId> {
        if let EntryKind::Hot(chain) = self.kind() { Some(chain) } else { None }
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }
}

impl From<StoredPage> for SlotEntry {
    fn from(page: StoredPage) -> Self {
        Self::new(EntryKind::Stored(page))
    }
}

const _: () = assert!(size_of::<SlotEntry>() == 8);

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
