//! The buddy lists: for each migrate type and order a doubly linked list of free blocks, linked through their descriptors.

use crate::descriptor::Descriptors;
use crate::geometry::ORDERS;
use crate::state::State;
use crate::units::{MigrateType, Order, Pfn};

/// "No frame" in a link. A zone never has this many.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    blocks: u64,
}

/// Heads and lengths of all buddy lists. Guarded by the zone lock.
#[derive(Debug)]
pub(crate) struct FreeLists {
    lists: [[List; ORDERS]; MigrateType::ALL.len()],
}

impl FreeLists {
    pub(crate) fn new() -> Self {
        Self { lists: [[List { head: NONE, blocks: 0 }; ORDERS]; MigrateType::ALL.len()] }
    }

    /// How many blocks of this order are free.
    pub(crate) fn blocks(&self, migrate_type: MigrateType, order: Order) -> u64 {
        self.lists[migrate_type.index()][order.index()].blocks
    }

    pub(crate) fn first(&self, migrate_type: MigrateType, order: Order) -> Option<Pfn> {
        let head = self.lists[migrate_type.index()][order.index()].head;
        (head != NONE).then_some(Pfn(head))
    }

    /// Puts a block, so far "inside", at the head of its list.
    pub(crate) fn link(&mut self, frames: &Descriptors, pfn: Pfn, order: Order, migrate_type: MigrateType) {
        let list = &mut self.lists[migrate_type.index()][order.index()];
        frames.change(pfn, State::INSIDE, State::free(order));
        frames.set_next(pfn, list.head);
        frames.set_previous(pfn, NONE);
        if list.head != NONE {
            frames.set_previous(Pfn(list.head), pfn.0);
        }
        list.head = pfn.0;
        list.blocks += 1;
    }

    /// Takes a block off its list and makes it `to`.
    pub(crate) fn unlink(
        &mut self,
        frames: &Descriptors,
        pfn: Pfn,
        order: Order,
        migrate_type: MigrateType,
        to: State,
    ) {
        frames.change(pfn, State::free(order), to);
        let list = &mut self.lists[migrate_type.index()][order.index()];
        let (next, previous) = (frames.next(pfn), frames.previous(pfn));
        if previous == NONE {
            assert!(list.head == pfn.0, "{pfn} of {order} is not on the {migrate_type:?} list");
            list.head = next;
        } else {
            frames.set_next(Pfn(previous), next);
        }
        if next != NONE {
            frames.set_previous(Pfn(next), previous);
        }
        list.blocks -= 1;
    }
}
