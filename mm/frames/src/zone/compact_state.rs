//! The state that compactions of a zone share: where an unfinished pass stopped, and deferral:
//! after a failed compaction, some requests fail at once instead of compacting again.

use sync::{Mutex, Rank};

use crate::geometry::ORDERS;
use crate::units::{BlockIndex, Order};

/// The most requests deferred before the next attempt.
const MAX_DEFERRED: u32 = 64;

/// Where a compaction in slices continues (the kernel's `compact_cached_migrate_pfn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanPosition {
    pub(crate) block: BlockIndex,
    /// The first of its frames that was not scanned.
    pub(crate) offset: u32,
}

/// What compactions of one zone share.
#[derive(Debug)]
pub(crate) struct CompactState {
    /// Locked by the one compaction of the whole zone. Contains the position of an unfinished pass.
    pub(crate) running: Mutex<Option<ScanPosition>>,
    pub(crate) deferrals: Mutex<Deferrals>,
}

impl Default for CompactState {
    fn default() -> Self {
        Self {
            running: Mutex::ranked(Rank::Compacting, None),
            deferrals: Mutex::ranked(Rank::Leaf, Deferrals::default()),
        }
    }
}

/// By order.
#[derive(Debug, Default)]
pub(crate) struct Deferrals([Deferral; ORDERS]);

#[derive(Clone, Copy, Debug, Default)]
struct Deferral {
    /// How many requests the last failure deferred; 0 when the last attempt succeeded.
    length: u32,
    /// How many of these are still to be deferred.
    left: u32,
}

/// What to do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeferDecision {
    /// Compact.
    Try,
    /// Compact, for the first time after a deferral: skip hints may be out of date.
    TryAfresh,
    /// Fail without compacting.
    Defer,
}

impl Deferrals {
    /// Decides about a request of this order, and counts it if it is deferred.
    pub(crate) fn decide(&mut self, order: Order) -> DeferDecision {
        let deferral = &mut self.0[order.index()];
        if deferral.left > 0 {
            deferral.left -= 1;
            DeferDecision::Defer
        } else if deferral.length > 0 {
            DeferDecision::TryAfresh
        } else {
            DeferDecision::Try
        }
    }

    /// Records a failure: twice as many requests are deferred as after the last one.
    pub(crate) fn failed(&mut self, order: Order) {
        let deferral = &mut self.0[order.index()];
        deferral.length = (deferral.length * 2).clamp(1, MAX_DEFERRED);
        deferral.left = deferral.length;
    }

    /// Records a success: compaction can make blocks of this order, so it can make smaller ones.
    pub(crate) fn succeeded(&mut self, order: Order) {
        self.0[..=order.index()].fill(Deferral::default());
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn r110_failures_defer_1_2_4_up_to_64_requests() {
        let (mut deferrals, order) = (Deferrals::default(), Order::PAGEBLOCK);
        let mut skipped = Vec::new();
        for _ in 0..9 {
            deferrals.failed(order);
            skipped.push(
                (0..).take_while(|_| deferrals.decide(order) == DeferDecision::Defer).count(),
            );
        }
        assert_eq!(
            skipped,
            [1, 2, 4, 8, 16, 32, 64, 64, 64],
            "requests deferred after each failed attempt"
        );
        assert_eq!(
            deferrals.decide(Order::SINGLE),
            DeferDecision::Try,
            "each order has its own state"
        );
        assert_eq!(deferrals.decide(order), DeferDecision::TryAfresh);
        deferrals.failed(order);
        deferrals.succeeded(Order::MAX);
        assert_eq!(
            deferrals.decide(order),
            DeferDecision::Try,
            "a success with a larger block counts for this order"
        );
    }
}
