//! The list of the zspages in one fullness group of a class.

use frames::ChainId;

use super::{NONE, Zspages};

/// Doubly linked list of the zspages in one fullness group of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZspageList {
    first: u32,
    len: u32,
}

impl ZspageList {
    /// A list without zspages.
    pub(crate) const EMPTY: Self = Self { first: NONE, len: 0 };

    /// Returns the number of zspages.
    pub(crate) fn len(self) -> u32 {
        self.len
    }

    /// Adds a zspage with `used` live objects: behind the first one if that has more, else in
    /// front. So the fullest zspage is filled next.
    ///
    /// The rest is unsorted: sorting would read more records than the first, which is written.
    pub(crate) fn add(&mut self, records: &Zspages, id: ChainId, used: u16) {
        let first = ChainId::from_bits(self.first);
        if self.first != NONE && records.head(first).is_some_and(|head| used < head.used) {
            let (previous, next) = records.links(first);
            records.set_links(id, self.first, next);
            records.set_links(first, previous, id.to_bits());
            records.set_previous(next, id.to_bits());
        } else {
            records.set_links(id, NONE, self.first);
            records.set_previous(self.first, id.to_bits());
            self.first = id.to_bits();
        }
        self.len += 1;
    }

    /// Removes a zspage from this list.
    pub(crate) fn remove(&mut self, records: &Zspages, id: ChainId) {
        debug_assert!(self.len > 0, "a zspage is removed from the list it is on");
        let (previous, next) = records.links(id);
        if previous == NONE {
            self.first = next;
        }
        records.set_next(previous, next);
        records.set_previous(next, previous);
        self.len -= 1;
    }

    /// Iterates over the zspages, front to back.
    pub(crate) fn iter(self, records: &Zspages) -> impl Iterator<Item = ChainId> {
        let mut next = self.first;
        std::iter::from_fn(move || {
            let id = (next != NONE).then(|| ChainId::from_bits(next))?;
            next = records.links(id).1;
            Some(id)
        })
    }
}
