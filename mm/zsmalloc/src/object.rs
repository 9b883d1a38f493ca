//! Object slots: where the bytes of an object are in its chain.

use std::ops::Range;

use frames::{ChainId, Exclusive, Shared};

use crate::class::SizeClass;
use crate::handle::Location;

/// Slot of an object in a zspage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectSlot {
    pub(crate) chain: ChainId,
    pub(crate) object: u16,
    pub(crate) class: SizeClass,
}

impl ObjectSlot {
    /// Returns the slot at a location in a zspage of `class`.
    pub(crate) fn at(location: Location, class: SizeClass) -> Self {
        Self { chain: location.chain(), object: location.object(), class }
    }

    /// Returns the range of header and payload. Units: bytes from the chain's start.
    pub(crate) fn bytes(self, len: usize) -> Range<usize> {
        let start = usize::from(self.object) * usize::from(self.class.size);
        start..start + self.class.header() + len
    }

    /// Returns the range of the payload. Units: bytes from the chain's start.
    pub(crate) fn payload(self, len: usize) -> Range<usize> {
        let bytes = self.bytes(len);
        bytes.start + self.class.header()..bytes.end
    }

    /// Writes header and payload. Returns `false` when the slot's frames are not attached, which
    /// only damaged metadata can cause.
    pub(crate) fn write(
        self,
        held: &mut Exclusive<'_>,
        index: u32,
        (first, second): (&[u8], &[u8]),
    ) -> bool {
        if !self.class.is_huge() {
            // Slots are a multiple of 16 bytes long, so a header never crosses a frame boundary.
            let Some((bytes, _)) = held.pieces_mut(self.bytes(0)) else { return false };
            bytes.copy_from_slice(&index.to_le_bytes());
        }
        let Some((head, tail)) = held.pieces_mut(self.payload(first.len() + second.len())) else {
            return false;
        };
        // Two pieces into two pieces: the border that comes first splits the other side.
        let at = first.len().min(head.len());
        head[..at].copy_from_slice(&first[..at]);
        if at < first.len() {
            let (front, back) = tail.split_at_mut(first.len() - at);
            front.copy_from_slice(&first[at..]);
            back.copy_from_slice(second);
        } else {
            let rest = head.len() - at;
            head[at..].copy_from_slice(&second[..rest]);
            tail.copy_from_slice(&second[rest..]);
        }
        true
    }

    /// Returns the handle index like [`ObjectSlot::header`], for an exclusive holder of the chain.
    pub(crate) fn header_exclusive(self, held: &mut Exclusive<'_>) -> Option<u32> {
        let (bytes, _) = held.pieces_mut(self.bytes(0))?;
        Some(u32::from_le_bytes((&*bytes).try_into().ok()?))
    }

    /// Copies the payload out, for an exclusive holder. Returns `None` without its frames.
    pub(crate) fn copy_out(self, held: &mut Exclusive<'_>, copy: &mut [u8]) -> Option<()> {
        let (head, tail) = held.pieces_mut(self.payload(copy.len()))?;
        let (first, second) = copy.split_at_mut(head.len());
        first.copy_from_slice(head);
        second.copy_from_slice(tail);
        Some(())
    }

    /// Returns the handle index in the header, or `None` without a header or without its frame.
    pub(crate) fn header(self, held: &Shared<'_>) -> Option<u32> {
        let (bytes, _) = held.pieces(self.bytes(0))?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use crate::tests::pool;

    /// S-49: writing a payload changes no header, neither its own nor a neighbour's.
    #[test]
    fn s49_a_payload_leaves_all_headers_alone() {
        let pool = pool(512);
        // 76 bytes and a header fill their class, so each payload ends where the next header
        // begins.
        for len in [12, 76, 100, 1100, 3000] {
            let handles: Vec<_> =
                (0..9).map(|_| pool.store(&vec![1; len]).expect("room")).collect();
            handles.iter().for_each(|&handle| pool.write(handle, &vec![0xff; len]).expect("live"));
            pool.check().expect("each header names its handle");
            for (number, &handle) in handles.iter().enumerate() {
                pool.write(handle, &vec![number as u8; len]).expect("live");
            }
            for (number, &handle) in handles.iter().enumerate() {
                assert_eq!(pool.read(handle).expect("live").to_vec(), vec![number as u8; len]);
            }
        }
    }
}
