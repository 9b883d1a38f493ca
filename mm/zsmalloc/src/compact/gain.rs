//! What a compaction of each class would gain.

use std::cmp::Reverse;

use crate::class::SizeClass;
use crate::pool::Pool;

/// Iterates over the classes with several objects to a zspage, longest objects first.
pub(crate) fn compactable_classes(pool: &Pool) -> impl Iterator<Item = SizeClass> {
    pool.classes.iter().rev().filter(|class| !class.is_huge())
}

/// Iterates over these classes and the frames that a compaction of each could free. Locks one
/// class at a time.
fn gains(pool: &Pool) -> impl Iterator<Item = (u64, SizeClass)> {
    compactable_classes(pool).map(|class| (pool.lock(class).freeable(), class))
}

/// Returns the frames that a compaction of all classes could free.
pub(super) fn frames_freeable(pool: &Pool) -> u64 {
    gains(pool).map(|gain| gain.0).sum()
}

/// Stores the classes with a gain, the largest gain first.
pub(crate) fn gains_largest_first(pool: &Pool, into: &mut Vec<(u64, SizeClass)>) {
    into.clear();
    into.extend(gains(pool).filter(|gain| gain.0 > 0));
    into.sort_unstable_by_key(|gain| Reverse(gain.0));
}
