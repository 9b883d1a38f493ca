//! Figures of the original experiments.
//!
//! They were published on the Linux memory management list. E-1 and E-2 come from the series that
//! separated zsmalloc's handles from its objects and added object compaction ("zsmalloc: decouple
//! handle and object", "zsmalloc: support compaction"). E-3 comes from the last patches of the v7
//! series for migration of non-LRU pages ("zsmalloc: page migration support", "zram: use
//! __GFP_MOVABLE for memory allocation"), measured in zone DMA32 of a guest with 1 GiB.
//!
//! Machines and data were different: the figures are a reference and no comparison of speed.

use super::free::{Free, ORDERS};

/// Bytes of objects in E-1: 8 GB of swap on zram after heavy swapping, then compacted by hand.
const E1_OBJECTS: u64 = 60_212_066;
/// Bytes of the frames that held them, before and after.
const E1_FRAMES: [u64; 2] = [140_103_680, 76_185_600];
/// Free memory of the machine (MemFree) in E-1, before and after. Units: KiB.
pub(super) const E1_FREE_KIB: [u64; 2] = [840_192, 901_932];

/// Returns object bytes over frame bytes in E-1, before and after.
pub(super) fn e1_ratios() -> [f64; 2] {
    E1_FRAMES.map(|frames| E1_OBJECTS as f64 / frames as f64)
}

/// Returns the number of frames freed in E-1.
pub(super) fn e1_frames_freed() -> u64 {
    (E1_FRAMES[0] - E1_FRAMES[1]) / frames::FRAME_SIZE as u64
}

/// E-2: figures of a phone after some use, before and after compaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct E2Figures {
    pub(super) used_kib: [u64; 2],
    pub(super) total_kib: [u64; 2],
    pub(super) migrated: u64,
    /// Free memory of the machine (MemFree). Units: KiB.
    pub(super) free_kib: [u64; 2],
    /// Free blocks of zone Normal by order.
    pub(super) blocks: [[u64; ORDERS]; 2],
}

impl E2Figures {
    /// Returns used over total memory, before and after.
    pub(super) fn ratios(&self) -> [f64; 2] {
        [0, 1].map(|moment| self.used_kib[moment] as f64 / self.total_kib[moment] as f64)
    }
}

pub(super) const E2: E2Figures = E2Figures {
    used_kib: [156_677, 156_673],
    total_kib: [166_092, 160_564],
    migrated: 23_630,
    free_kib: [83_724, 89_060],
    blocks: [
        [13642, 1364, 57, 10, 61, 17, 9, 5, 4, 0, 0],
        [14076, 1544, 67, 14, 61, 17, 9, 5, 4, 0, 0],
    ],
};

/// E-3 without movable zspages: free blocks at the start and after the compaction.
pub(super) const E3_OLD: [Free; 2] = [
    Free::of_blocks([16380, 13777, 9184, 3805, 789, 54, 3, 0, 0, 0, 0]),
    Free::of_blocks([5219, 5526, 4969, 3455, 1831, 677, 139, 15, 0, 0, 0]),
];

/// E-3 with movable zspages.
pub(super) const E3_NEW: [Free; 2] = [
    Free::of_blocks([18891, 16774, 10862, 3947, 637, 21, 0, 0, 0, 0, 0]),
    Free::of_blocks([1612, 3139, 3154, 2469, 1745, 990, 384, 94, 7, 0, 0]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_give_the_published_ratios() {
        let shown = |ratios: [f64; 2]| ratios.map(|ratio| format!("{ratio:.4}"));
        assert_eq!(shown(e1_ratios()), ["0.4298", "0.7903"]);
        assert_eq!(e1_frames_freed(), 15_605);
        assert_eq!(shown(E2.ratios()), ["0.9433", "0.9758"]);
        let [init, after] = E3_NEW;
        assert_eq!((init.frames(), after.frames()), (138_327, 138_258));
        assert_eq!(format!("{:.3}", after.share_from(4).expect("free")), "0.709");
        let [init, after] = E3_OLD;
        assert_eq!((init.frames(), after.frames()), (125_654, 125_563));
        assert_eq!(format!("{:.3}", after.share_from(5).expect("free")), "0.259");
        assert_eq!((after.highest(), after.share_from(9)), (Some(7), Some(0.0)));
    }
}
