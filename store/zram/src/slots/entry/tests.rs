use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn every_kind_reads_back(bits in 1u64..=PAYLOAD, pattern: u32) {
        let handle = Handle::from_bits(bits);
        for kind in [
            EntryKind::Empty,
            EntryKind::Stored(StoredPage::Same(pattern)),
            EntryKind::Stored(StoredPage::Pattern(handle)),
            EntryKind::Stored(StoredPage::Compressed(handle)),
            EntryKind::Stored(StoredPage::Raw(handle)),
            EntryKind::Hot(ChainId::from_bits(pattern)),
            EntryKind::Reserved,
            EntryKind::Invalid,
        ] {
            prop_assert_eq!(SlotEntry::from_bits(SlotEntry::new(kind).to_bits()).kind(), kind);
        }
    }

    /// Any bits are invalid or encode exactly what they decode to, so a flipped bit never yields a
    /// kind that `new` could not make.
    #[test]
    fn any_bits_are_invalid_or_read_back(bits: u64) {
        let kind = SlotEntry::from_bits(bits).kind();
        let again = SlotEntry::new(kind).kind();
        prop_assert_eq!(kind, again);
    }
}

#[test]
fn fresh_memory_is_empty_and_zeros_are_not() {
    assert_eq!(SlotEntry::from_bits(0).kind(), EntryKind::Empty);
    assert_eq!(SlotEntry::ZEROS.kind(), EntryKind::Stored(StoredPage::Same(0)));
    assert_eq!(SlotEntry::from_bits(5).kind(), EntryKind::Invalid);
    assert_eq!(SlotEntry::RESERVED.kind(), EntryKind::Reserved);
    assert_eq!(SlotEntry::from_bits(SlotEntry::RESERVED.to_bits() | 1).kind(), EntryKind::Invalid);
    assert_eq!(SlotEntry::default(), SlotEntry::EMPTY);
}
