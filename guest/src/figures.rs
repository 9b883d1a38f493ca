//! Figures of the kernel: lines of `/proc/buddyinfo`, and what a zram of the kernel holds.

use serde::Serialize;
use zram::MmStat;

/// Size of a frame or page. Units: bytes.
pub(crate) const FRAME: u64 = 4096;

/// Free blocks of a zone by order: a line of `/proc/buddyinfo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FreeBlocks {
    pub zone: String,
    /// Number of free blocks of 2^index frames.
    pub blocks: Vec<u64>,
}

impl FreeBlocks {
    /// Parses a line like `Node 0, zone    DMA32      1      0      3`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("zone")?;
        let mut words = rest.split_whitespace();
        let zone = words.next()?.to_owned();
        let blocks = words.map(|count| count.parse().ok()).collect::<Option<Vec<u64>>>()?;
        (!blocks.is_empty()).then_some(Self { zone, blocks })
    }

    /// Returns the free frames in blocks of at least this order.
    pub(crate) fn frames_from(&self, order: usize) -> u64 {
        self.blocks.iter().enumerate().skip(order).map(|(order, blocks)| blocks << order).sum()
    }

    /// Returns all free frames.
    pub(crate) fn frames(&self) -> u64 {
        self.frames_from(0)
    }
}

/// Returns the zone with the most free memory. In a guest of 1 GiB that is DMA32; the other zone
/// has
/// 16 MiB that hardly change.
pub(crate) fn largest_zone(lines: &[FreeBlocks]) -> Option<&FreeBlocks> {
    lines.iter().max_by_key(|zone| zone.frames())
}

/// Returns the number of pages that are stored as an object with a handle.
pub(crate) fn objects(stat: &MmStat) -> u64 {
    (stat.orig_data_size / FRAME).saturating_sub(stat.same_pages)
}

/// Returns all memory that the kernel's zram of `disksize` holds. `mem_used_total` counts only
/// zspages, so 16 bytes for each slot and 8 bytes for each handle are added. The records of zspages
/// and the zone's own descriptors are omitted, which favours the kernel.
pub(crate) fn held(stat: &MmStat, disksize: u64) -> u64 {
    stat.mem_used_total + 16 * (disksize / FRAME) + 8 * objects(stat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_buddyinfo_may_have_any_number_of_orders() {
        let line = "Node 0, zone    DMA32      1      2      0      4";
        let zone = FreeBlocks::parse(line).expect("a line");
        assert_eq!(
            (zone.zone.as_str(), zone.blocks.as_slice()),
            ("DMA32", [1, 2, 0, 4].as_slice())
        );
        assert_eq!(
            (zone.frames(), zone.frames_from(1), zone.frames_from(3), zone.frames_from(4)),
            (37, 36, 32, 0)
        );
        assert_eq!(FreeBlocks::parse("Node 0, zone memzip      7 \n").expect("a line").frames(), 7);
        for bad in ["", "Node 0", "Node 0, zone", "Node 0, zone DMA", "Node 0, zone DMA 1 x"] {
            assert_eq!(FreeBlocks::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_largest_zone_has_the_most_free_memory() {
        let zones = ["Node 0, zone DMA 100 0 0", "Node 0, zone DMA32 0 0 26"]
            .map(|line| FreeBlocks::parse(line).expect("ok"));
        assert_eq!(largest_zone(&zones).map(|zone| zone.zone.as_str()), Some("DMA32"));
        assert_eq!(largest_zone(&[]), None);
    }

    #[test]
    fn metadata_is_added_to_mm_stat() {
        let line =
            "538402816 248468405 255344640        0 500000000     1446        7      12       13";
        let stat: MmStat = line.parse().expect("a line");
        assert_eq!(objects(&stat), 538_402_816 / 4096 - 1446);
        assert_eq!(held(&stat, 1 << 30), 255_344_640 + 16 * 262_144 + 8 * objects(&stat));
    }
}
