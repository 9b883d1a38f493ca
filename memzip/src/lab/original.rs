//! Figures of the original experiments.
//!
//! They were published on the Linux memory management list. E-1 and E-2 come from the series that
//! separated zsmalloc's handles from its objects and added object compaction ("zsmalloc: decouple
//! handle and object", "zsmalloc: support compaction"). E-3 comes from the last patches of the v7
//! series for migration of non-LRU pages ("zsmalloc: page migration support", "zram: use
//! __GFP_MOVABLE for memory allocation"), measured in zone DMA32 of a guest with 1 GiB.
//!
//! Those machines and data were different, so the figures are a reference and not a speed
//! comparison.

use super::free::{Free, ORDERS};

/// E-1: bytes of objects and of the frames that held them.
#[derive(Clone, Copy, Debug)]
pub(super) struct E1Figures {
    pub(super) object_bytes: u64,
    pub(super) used_before: u64,
    pub(super) used_after: u64,
    /// Free memory of the machine (MemFree) before and after. Units: KiB.
    pub(super) free_kib: [u64; 2],
}

impl E1Figures {
    /// Returns object bytes over frame bytes, before and after.
    pub(super) fn ratios(&self) -> (f64, f64) {
        let ratio = |used: u64| self.object_bytes as f64 / used as f64;
        (ratio(self.used_before), ratio(self.used_after))
    }

    /// Returns the number of freed frames.
    pub(super) fn frames_freed(&self) -> u64 {
        (self.used_before - self.used_after) / frames::FRAME_SIZE as u64
    }
}

/// 8 GB of swap on zram after heavy swapping, then compacted by hand.
pub(super) const E1: E1Figures = E1Figures {
    object_bytes: 60_212_066,
    used_before: 140_103_680,
    used_after: 76_185_600,
    free_kib: [840_192, 901_932],
};

/// E-2: figures before and after compaction.
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

/// A phone after some use.
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

/// E-3: free blocks at the start and after the compaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct E3Figures {
    pub(super) init: [u64; ORDERS],
    pub(super) after: [u64; ORDERS],
}

impl E3Figures {
    /// Returns free memory at both moments.
    pub(super) fn free(&self) -> [Free; 2] {
        [Free::of_blocks(self.init), Free::of_blocks(self.after)]
    }
}

/// E-3 without movable zspages.
pub(super) const E3_OLD: E3Figures = E3Figures {
    init: [16380, 13777, 9184, 3805, 789, 54, 3, 0, 0, 0, 0],
    after: [5219, 5526, 4969, 3455, 1831, 677, 139, 15, 0, 0, 0],
};

/// E-3 with movable zspages.
pub(super) const E3_NEW: E3Figures = E3Figures {
    init: [18891, 16774, 10862, 3947, 637, 21, 0, 0, 0, 0, 0],
    after: [1612, 3139, 3154, 2469, 1745, 990, 384, 94, 7, 0, 0],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_give_the_published_ratios() {
        let (before, after) = E1.ratios();
        assert_eq!(
            (format!("{before:.4}"), format!("{after:.4}")),
            ("0.4298".into(), "0.7903".into())
        );
        assert_eq!(E1.frames_freed(), 15_605);
        let ratio = |moment: usize| E2.used_kib[moment] as f64 / E2.total_kib[moment] as f64;
        assert_eq!(
            (format!("{:.4}", ratio(0)), format!("{:.4}", ratio(1))),
            ("0.9433".into(), "0.9758".into())
        );
        let [init, after] = E3_NEW.free();
        assert_eq!((init.frames(), after.frames()), (138_327, 138_258));
        assert_eq!(format!("{:.3}", after.share_from(4).expect("free")), "0.709");
        let [init, after] = E3_OLD.free();
        assert_eq!((init.frames(), after.frames()), (125_654, 125_563));
        assert_eq!(format!("{:.3}", after.share_from(5).expect("free")), "0.259");
        assert_eq!((after.highest(), after.share_from(9)), (Some(7), Some(0.0)));
    }
}
