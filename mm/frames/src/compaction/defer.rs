//! Deferral: after compactions in vain, requests do not wait for another one each time.

use crate::geometry::ORDERS;
use crate::units::Order;

/// Requests that are not compacted for, at most, before the next attempt.
const MOST: u32 = 64;

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
pub(crate) enum Turn {
    /// Try.
    Try,
    /// Try, for the first time in a while: what was learned before may not be true any more.
    TryAfresh,
    /// Not this time.
    Defer,
}

impl Deferrals {
    pub(crate) fn turn(&mut self, order: Order) -> Turn {
        let deferral = &mut self.0[order.index()];
        if deferral.left > 0 {
            deferral.left -= 1;
            Turn::Defer
        } else if deferral.length > 0 {
            Turn::TryAfresh
        } else {
            Turn::Try
        }
    }

    pub(crate) fn failed(&mut self, order: Order) {
        let deferral = &mut self.0[order.index()];
        deferral.length = (deferral.length * 2).clamp(1, MOST);
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
    fn r110_attempts_in_vain_are_followed_by_1_2_4_up_to_64_skipped_ones() {
        let (mut deferrals, order) = (Deferrals::default(), Order::PAGEBLOCK);
        let mut skipped = Vec::new();
        for _ in 0..9 {
            deferrals.failed(order);
            skipped.push((0..).take_while(|_| deferrals.turn(order) == Turn::Defer).count());
        }
        assert_eq!(
            skipped,
            [1, 2, 4, 8, 16, 32, 64, 64, 64],
            "requests put off after each attempt in vain"
        );
        assert_eq!(deferrals.turn(Order::SINGLE), Turn::Try, "each order for itself");
        assert_eq!(deferrals.turn(order), Turn::TryAfresh);
        deferrals.failed(order);
        deferrals.succeeded(Order::MAX);
        assert_eq!(
            deferrals.turn(order),
            Turn::Try,
            "a success with a larger block is one with this"
        );
    }
}
