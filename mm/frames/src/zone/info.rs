//! `buddyinfo` and `pagetypeinfo` in the kernel's exact text format, so that tools that read the
//! kernel's files can read a zone.
//!
//! The zone has one line that the kernel's files lack: free pageblocks without memory are the type
//! `Released`. `buddyinfo` counts them as free.

use std::fmt;

use super::Zone;
use crate::buddy::{Buddy, FreeListKind, ROWS, WITHOUT_MEMORY};
use crate::geometry::{ORDERS, PAGEBLOCK_FRAMES, PAGEBLOCK_ORDER};
use crate::units::Order;

/// The zone's name in the text. There is only one.
const ZONE: &str = "memzip";

/// Free blocks of each order. Its text is a line of `/proc/buddyinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuddyInfo {
    free: [u64; ORDERS],
}

/// Free blocks of each type and order, and pageblocks of each type. Its text is that of
/// `/proc/pagetypeinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTypeInfo {
    free: [[u64; ORDERS]; ROWS],
    blocks: [u64; ROWS],
}

impl Zone {
    /// Returns the free blocks of each order. Frames on per-CPU lists are not included.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn buddyinfo(&self) -> BuddyInfo {
        let free = self.free_blocks(&self.allocator.buddy.lock());
        let sum = |order| free.iter().map(|blocks| blocks[order]).sum();
        BuddyInfo { free: std::array::from_fn(sum) }
    }

    /// Returns the free blocks of each type and order, and the pageblocks of each type.
    ///
    /// Locking: the zone lock.
    #[must_use]
    pub fn pagetypeinfo(&self) -> PageTypeInfo {
        let buddy = self.allocator.buddy.lock();
        PageTypeInfo { free: self.free_blocks(&buddy), blocks: self.tables().blocks.counts() }
    }

    fn free_blocks(&self, buddy: &Buddy) -> [[u64; ORDERS]; ROWS] {
        let mut free = [[0; ORDERS]; ROWS];
        for list_kind in FreeListKind::ALL {
            for order in Order::SINGLE.and_larger() {
                free[list_kind.index()][order.index()] = buddy.lists.blocks(list_kind, order);
            }
        }
        let released = &self.tables().released;
        let (blocks, pairs) = (released.members(), released.pairs());
        free[WITHOUT_MEMORY][Order::PAGEBLOCK.index()] = blocks.saturating_sub(2 * pairs);
        free[WITHOUT_MEMORY][Order::MAX.index()] = pairs;
        free
    }
}

impl BuddyInfo {
    /// Returns the number of free blocks of this order.
    #[must_use]
    pub fn blocks(&self, order: Order) -> u64 {
        self.free[order.index()]
    }
}

impl fmt::Display for BuddyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node {}, zone {ZONE:>8} ", 0)?;
        self.free.iter().try_for_each(|blocks| write!(f, "{blocks:>6} "))?;
        writeln!(f)
    }
}

fn type_names() -> impl Iterator<Item = &'static str> {
    FreeListKind::ALL.iter().map(|list_kind| list_kind.name()).chain(["Released"])
}

impl fmt::Display for PageTypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Page block order: {PAGEBLOCK_ORDER}")?;
        writeln!(f, "Pages per block:  {PAGEBLOCK_FRAMES}\n")?;
        write!(f, "{:<43} ", "Free pages count per migrate type at order")?;
        (0..ORDERS).try_for_each(|order| write!(f, "{order:>6} "))?;
        writeln!(f)?;
        for (name, orders) in type_names().zip(&self.free) {
            write!(f, "Node {:>4}, zone {ZONE:>8}, type {name:>12} ", 0)?;
            orders.iter().try_for_each(|blocks| write!(f, "{blocks:>6} "))?;
            writeln!(f)?;
        }
        write!(f, "\n{:<23}", "Number of blocks type ")?;
        type_names().try_for_each(|name| write!(f, "{name:>12} "))?;
        write!(f, "\nNode {}, zone {ZONE:>8} ", 0)?;
        self.blocks.iter().try_for_each(|blocks| write!(f, "{blocks:>12} "))?;
        writeln!(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::zones::{heap_zone, take_block};
    use crate::{MigrateType, Reclaim};

    /// Splits a line at blanks and replaces each number by `N`.
    fn shape(line: &str) -> Vec<String> {
        let mark = |word: &str| {
            if word.chars().all(|c| c.is_ascii_digit()) { "N".into() } else { word.to_owned() }
        };
        line.split_whitespace().map(mark).collect()
    }

    #[test]
    fn buddyinfo_reads_like_the_kernels() {
        let zone = heap_zone(4096);
        let held = take_block(&zone, Order::new(3).expect("small"));
        assert!(held.is_ok());
        assert_eq!(
            zone.buddyinfo().to_string(),
            "Node 0, zone   memzip      0      0      0      1      1      1      1      1      1      0      0 \n"
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads /proc")]
    fn buddyinfo_has_the_shape_of_this_machines() {
        let kernel = std::fs::read_to_string("/proc/buddyinfo").expect("Linux has it");
        let theirs = shape(kernel.lines().last().expect("a zone"));
        let mut ours = shape(&heap_zone(4096).buddyinfo().to_string());
        // The zone's name is the fourth word and differs.
        ours[3].clone_from(&theirs[3]);
        assert_eq!(ours, theirs);
    }

    #[test]
    fn pagetypeinfo_reads_like_the_kernels() {
        let zone = heap_zone(4096);
        let held: Vec<_> = [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Movable]
            .into_iter()
            .map(|kind| {
                zone.alloc_block(Order::PAGEBLOCK, kind, Reclaim::NotAllowed).expect("free blocks")
            })
            .collect();
        drop(held);
        zone.trim();
        let small = zone.alloc_block(Order::SINGLE, MigrateType::Unmovable, Reclaim::NotAllowed);
        assert!(small.is_ok());
        let expected = "\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0      1      2      3      4      5      6      7      8      9     10 
Node    0, zone   memzip, type    Unmovable      1      1      1      1      1      1      1      1      1      0      0 
Node    0, zone   memzip, type      Movable      0      0      0      0      0      0      0      0      0      0      0 
Node    0, zone   memzip, type          CMA      0      0      0      0      0      0      0      0      0      0      0 
Node    0, zone   memzip, type      Isolate      0      0      0      0      0      0      0      0      0      0      0 
Node    0, zone   memzip, type     Released      0      0      0      0      0      0      0      0      0      2      0 

Number of blocks type     Unmovable      Movable          CMA      Isolate     Released 
Node 0, zone   memzip            1            0            0            0            2 
";
        assert_eq!(zone.pagetypeinfo().to_string(), expected);
    }

    #[test]
    fn adjacent_released_pageblocks_show_as_one_block() {
        let zone = heap_zone(4096);
        drop(take_block(&zone, Order::MAX));
        zone.trim();
        let info = zone.buddyinfo();
        assert_eq!((info.blocks(Order::PAGEBLOCK), info.blocks(Order::MAX)), (0, 1));
    }
}
