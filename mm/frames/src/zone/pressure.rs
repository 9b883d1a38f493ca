//! How short a zone's memory is, by the kernel's three watermarks on free frames, and waking the
//! kswapd thread when it is.
//!
//! A request is served as long as there is a frame. The flag for the thread is set under the zone
//! lock, where free frames are counted anyway. Waking it is a system call, so the next call that
//! holds no lock does it.

use super::allocator::FrameAllocator;
use super::kswapd_state::KswapdPhase;
use crate::buddy::Buddy;
use crate::geometry::FRAME_SIZE;
use crate::units::FrameCount;

/// Numbers of free frames at which behaviour changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Direct compaction and the balloon leave this many frames free.
    pub min: FrameCount,
    /// Below this the reclaim thread starts.
    pub low: FrameCount,
    /// At this the reclaim thread stops.
    pub high: FrameCount,
}

/// The number of free frames compared with the watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Free frames are above the high mark.
    AboveHigh,
    /// Between low and high: running reclaim goes on, none starts.
    BelowHigh,
    /// Between min and low.
    BelowLow,
    /// Below min.
    BelowMin,
}

impl Watermarks {
    /// Returns the watermarks of a zone that may use `managed` frames, by the kernel's rule. Min is
    /// the square root of 16 times the memory in KiB, between 128 KiB and 256 MiB, here at most an
    /// eighth of the memory. Each step above it is a quarter of min or a thousandth of the memory,
    /// whichever is more.
    #[must_use]
    pub fn of(managed: FrameCount) -> Self {
        let kib_a_frame = (FRAME_SIZE as u64).div_ceil(1024);
        let kib = managed.0.saturating_mul(kib_a_frame);
        let min =
            (kib.saturating_mul(16).isqrt().clamp(128, 256 << 10) / kib_a_frame).min(managed.0 / 8);
        let step = (min / 4).max(managed.0 / 1000);
        Self { min: FrameCount(min), low: FrameCount(min + step), high: FrameCount(min + 2 * step) }
    }

    /// Returns the pressure when `free` frames are free.
    #[must_use]
    pub fn pressure(&self, free: FrameCount) -> Pressure {
        match free {
            free if free < self.min => Pressure::BelowMin,
            free if free < self.low => Pressure::BelowLow,
            free if free < self.high => Pressure::BelowHigh,
            _ => Pressure::AboveHigh,
        }
    }
}

impl FrameAllocator {
    /// Wakes the kswapd thread if it has work. One load if it has none.
    pub(crate) fn wake_kswapd(&self) {
        if self.kswapd.is(KswapdPhase::WakePending)
            && self.kswapd.change(KswapdPhase::WakePending, KswapdPhase::Awake)
        {
            self.kswapd.unpark();
        }
    }

    /// Sets the flag when free frames are below the low watermark, after frames were taken.
    pub(super) fn request_kswapd_if_low(&self, buddy: &Buddy) {
        if self.kswapd.is(KswapdPhase::Asleep) && self.is_below_low(buddy) {
            self.kswapd.change(KswapdPhase::Asleep, KswapdPhase::WakePending);
        }
    }

    /// Returns whether free frames are below the low watermark.
    pub(crate) fn is_below_low(&self, buddy: &Buddy) -> bool {
        if buddy.is_poisoned() {
            return false;
        }
        let (usable, free) = self.usable_and_free(buddy);
        // No watermark is above a fourth of the usable frames, which is the cheaper test.
        free.0 < usable.0 / 4 && Watermarks::of(usable).pressure(free) >= Pressure::BelowLow
    }

    /// Returns how many frames the limits allow, and how many of them may still be taken.
    pub(crate) fn usable_and_free(&self, buddy: &Buddy) -> (FrameCount, FrameCount) {
        let limit = buddy.ledger.frame_limit().map_or(self.capacity(), FrameCount);
        let usable = limit.min(self.capacity());
        (usable, FrameCount(usable.0.saturating_sub(buddy.ledger.counted())))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Order;
    use crate::zones::{heap_zone, take_block};

    #[test]
    fn one_gib_gets_the_kernels_watermarks() {
        // sqrt(16 * 1 Mi KiB) = 4096 KiB = 1024 frames. A thousandth of the memory is 262 frames,
        // more than a quarter of min.
        let marks = Watermarks::of(FrameCount(262_144));
        assert_eq!((marks.min.0, marks.low.0, marks.high.0), (1024, 1286, 1548));
    }

    #[test]
    fn marks_are_ordered_and_inside_for_any_size() {
        for managed in [0, 1, 7, 100, 5000, 1 << 20, 1 << 28, u64::MAX] {
            let marks = Watermarks::of(FrameCount(managed));
            assert!(
                marks.min <= marks.low && marks.low <= marks.high && marks.high.0 <= managed,
                "{managed}: {marks:?}"
            );
        }
    }

    #[test]
    fn pressure_rises_as_a_zone_fills() {
        let zone = heap_zone(512);
        let mut seen = vec![zone.pressure()];
        let mut held = Vec::new();
        while let Ok(block) = take_block(&zone, Order::SINGLE) {
            held.push(block);
            let now = zone.pressure();
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        assert_eq!(
            seen,
            [Pressure::AboveHigh, Pressure::BelowHigh, Pressure::BelowLow, Pressure::BelowMin]
        );
    }

    #[test]
    fn reserved_frames_are_not_free() {
        let zone = heap_zone(512);
        let all = zone.reserve(FrameCount(512)).expect("room");
        assert_eq!(zone.pressure(), Pressure::BelowMin);
        drop(all);
        assert_eq!(zone.pressure(), Pressure::AboveHigh);
    }
}
