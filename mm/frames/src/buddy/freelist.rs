//! The buddy lists: for each migrate type and order a doubly linked list of free blocks, linked
//! through their descriptors.

use crate::geometry::ORDERS;
use crate::page::{Descriptors, NO_FRAME, State};
use crate::units::{MigrateType, Order, Pfn};

/// The lists that a free block can be on: those of its pageblock's migrate type, or those of
/// isolated pageblocks, which serve no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FreeListKind {
    Type(MigrateType),
    Isolated,
}

/// The number of list kinds.
pub(crate) const FREE_LIST_KINDS: usize = MigrateType::ALL.len() + 1;

impl FreeListKind {
    pub(crate) const ALL: [Self; FREE_LIST_KINDS] = [
        Self::Type(MigrateType::Unmovable),
        Self::Type(MigrateType::Movable),
        Self::Type(MigrateType::Cma),
        Self::Isolated,
    ];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Type(migrate_type) => migrate_type.index(),
            Self::Isolated => FREE_LIST_KINDS - 1,
        }
    }

    /// Returns the kernel's name of the list kind, as `pagetypeinfo` prints it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Type(migrate_type) => migrate_type.name(),
            Self::Isolated => "Isolate",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    blocks: u64,
}

/// Heads and lengths of all buddy lists. The zone lock guards them.
#[derive(Debug)]
pub(crate) struct FreeLists {
    lists: [[List; ORDERS]; FREE_LIST_KINDS],
}

impl Default for FreeLists {
    fn default() -> Self {
        Self { lists: [[List { head: NO_FRAME, blocks: 0 }; ORDERS]; FREE_LIST_KINDS] }
    }
}

impl FreeLists {
    /// Returns how many blocks of this order are free.
    pub(crate) fn blocks(&self, list_kind: FreeListKind, order: Order) -> u64 {
        self.lists[list_kind.index()][order.index()].blocks
    }

    /// Returns the first frame of the block at the head of a list.
    pub(crate) fn first(&self, list_kind: FreeListKind, order: Order) -> Option<Pfn> {
        let head = self.lists[list_kind.index()][order.index()].head;
        (head != NO_FRAME).then_some(Pfn(head))
    }

    /// Puts a block that was "inside" at the head of its list.
    pub(crate) fn link(
        &mut self,
        frames: &Descriptors,
        pfn: Pfn,
        order: Order,
        list_kind: FreeListKind,
    ) {
        let list = &mut self.lists[list_kind.index()][order.index()];
        frames.change(pfn, State::INSIDE, State::free(order));
        frames.set_next(pfn, list.head);
        frames.set_previous(pfn, NO_FRAME);
        if list.head != NO_FRAME {
            frames.set_previous(Pfn(list.head), pfn.0);
        }
        list.head = pfn.0;
        list.blocks += 1;
    }

    /// Takes a block off its list. Its first frame is then "inside".
    pub(crate) fn unlink(
        &mut self,
        frames: &Descriptors,
        pfn: Pfn,
        order: Order,
        list_kind: FreeListKind,
    ) {
        frames.change(pfn, State::free(order), State::INSIDE);
        let list = &mut self.lists[list_kind.index()][order.index()];
        let (next, previous) = (frames.next(pfn), frames.previous(pfn));
        if previous == NO_FRAME {
            assert!(
                list.head == pfn.0,
                "{pfn} of {order} is not the head of the {list_kind:?} list"
            );
            list.head = next;
        } else {
            frames.set_next(Pfn(previous), next);
        }
        if next != NO_FRAME {
            frames.set_previous(Pfn(next), previous);
        }
        list.blocks -= 1;
    }
}
