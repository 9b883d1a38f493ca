//! Deferral: after compactions in vain, requests do not wait for another one each time.

use crate::geometry::ORDERS;
use crate::units::Order;

/// Requests that are not compacted for, at most, before the next attempt.
const MAX_DEFERRED: u32 = 64;

/// What is put off, for each order.
#[derive(Debug, Default)]
pub(crate) struct Deferrals([Deferral; ORDERS]);

#[derive(Clone, Copy, Debug, Default)]
struct Deferral {
    /// How many requests the last failure put off; 0 when the last attempt was a success.
    length: u32,
    left: u32,
}

/// What to do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeferDecision {
    /// Try.
    Try,
    /// Try, for the first time in a while: what was learned before may not be true any more.
    TryAfresh,
    /// Not this time.
    Defer,
}

impl Deferrals {
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

    pub(crate) fn failed(&mut self, order: Order) {
        let deferral = &mut self.0[order.index()];
        deferral.length = (deferral.length * 2).clamp(1, MAX_DEFERRED);
        deferral.left = deferral.length;
    }

    /// A block of this order could be had, so smaller ones can.
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
            "requests put off after each attempt in vain"
        );
        assert_eq!(deferrals.decide(Order::SINGLE), DeferDecision::Try, "each order for itself");
        assert_eq!(deferrals.decide(order), DeferDecision::TryAfresh);
        deferrals.failed(order);
        deferrals.succeeded(Order::MAX);
        assert_eq!(
            deferrals.decide(order),
            DeferDecision::Try,
            "a success with a larger block is one with this"
        );
    }
}
