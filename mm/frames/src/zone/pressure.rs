//! How short a zone's memory is, and waking the kswapd thread when it is.
//!
//! The flag for the thread is set under the zone lock, where free frames are counted anyway.
//! Waking it is a system call, so the next call that holds no lock does it.

use super::allocator::FrameAllocator;
use super::kswapd_state::KswapdPhase;
use super::watermarks::{Pressure, Watermarks};
use crate::buddy::Buddy;
use crate::units::FrameCount;

impl FrameAllocator {
    /// Wakes the kswapd thread if it has work. One load if it has none.
    pub(crate) fn wake_kswapd(&self) {
        if self.kswapd.is(KswapdPhase::WakePending)
            && self.kswapd.change(KswapdPhase::WakePending, KswapdPhase::Awake)
        {
            self.kswapd.unpark();
        }
    }

    /// Sets the flag when free frames are below the low watermark. Called under the zone lock
    /// after frames were taken.
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

    /// Returns how many frames the limits allow, and how many of them may still be taken. Reserved
    /// frames may not.
    pub(crate) fn usable_and_free(&self, buddy: &Buddy) -> (FrameCount, FrameCount) {
        let usable = self.usable(buddy);
        (usable, FrameCount(usable.0.saturating_sub(buddy.ledger.counted())))
    }

    /// Returns how many frames of the arena the limits allow.
    pub(crate) fn usable(&self, buddy: &Buddy) -> FrameCount {
        let limit = buddy.ledger.frame_limit().map_or(self.capacity(), FrameCount);
        limit.min(self.capacity())
    }
}
