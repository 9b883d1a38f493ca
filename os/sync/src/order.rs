//! The order in which a thread may wait for locks, checked at run time in debug builds.
//!
//! Each lock has a [`Rank`], its row in `docs/locking.md`. A thread that holds a lock may wait only
//! for locks of a later rank; it may *try* any lock. A [`Mutex`](crate::Mutex) checks this before
//! each wait; other locks call [`assert_may_wait`]. The check counts the locks of the calling
//! thread, so it reports a wrong order without a deadlock.

use std::cell::Cell;

/// Whether this build checks the order. loom and shuttle report the deadlock itself.
const CHECKED: bool = cfg!(all(debug_assertions, not(any(loom, shuttle))));

/// The rank of a lock in the lock order, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Reclaim for a store: one thread at a time asks the shrinkers.
    Reclaim,
    /// Frame compaction of a whole zone: one thread at a time, and others only try.
    Compacting,
    /// A balloon's device lock: the messages to its host.
    Device,
    /// A stream: the working memory of one codec.
    Stream,
    /// A frame chain: its bytes and frame numbers. Readers wait; all others only try.
    Chain,
    /// A size class: its zspages.
    Class,
    /// A shard of an ID allocator: its free IDs.
    Shard,
    /// A per-CPU list: its free frames. Several are locked in ascending order of their numbers.
    CpuList,
    /// A zone: its buddy lists and its limit.
    Zone,
    /// A lock under which no thread waits for another lock.
    Leaf,
}

const RANKS: usize = Rank::Leaf as usize + 1;

thread_local! {
    /// Locks of each rank that this thread holds.
    static HELD: Cell<[u16; RANKS]> = const { Cell::new([0; RANKS]) };
}

/// Returns how many locks of each rank this thread holds. A thread that is ending has no
/// thread-local storage left; nothing is checked then.
fn held() -> [u16; RANKS] {
    HELD.try_with(Cell::get).unwrap_or_default()
}

/// Checks that the calling thread may wait for a lock of `rank`. Does nothing in release builds.
///
/// # Panics
/// In debug builds, when the thread holds a lock of a later rank, or another one of this rank that
/// does not nest.
#[inline]
#[track_caller]
pub fn assert_may_wait(rank: Rank) {
    if !CHECKED {
        return;
    }
    // A thread may hold several chains, and several CPU lists.
    let nests = matches!(rank, Rank::Chain | Rank::CpuList);
    let held = held();
    if let Some(later) = (rank as usize + usize::from(nests)..RANKS).find(|&rank| held[rank] > 0) {
        panic!(
            "lock order: a thread waits for {rank:?} while it holds a lock of rank {later}, \
             see docs/locking.md"
        );
    }
}

/// Checks that the calling thread may make a slow system call such as `madvise`: it holds no lock
/// that other threads wait for on a hot path. Does nothing in release builds.
///
/// # Panics
/// In debug builds, when the thread holds a lock of a rank from [`Rank::Class`] to [`Rank::Zone`].
#[inline]
#[track_caller]
pub fn assert_may_call_os() {
    let mut ranks = Rank::Class as usize..=Rank::Zone as usize;
    // A second panic would abort.
    if CHECKED
        && !std::thread::panicking()
        && let Some(rank) = ranks.find(|&rank| held()[rank] > 0)
    {
        panic!(
            "the OS is called while this thread holds a lock of rank {rank}, see docs/locking.md"
        );
    }
}

/// The rank of a mutex, if it has one. It takes no room in a build that does not check the order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LockRank([Option<Rank>; CHECKED as usize]);

impl LockRank {
    pub(crate) fn new(rank: Rank) -> Self {
        Self([Some(rank); CHECKED as usize])
    }

    pub(crate) fn get(self) -> Option<Rank> {
        self.0.into_iter().next().flatten()
    }

    /// Changes the calling thread's count of the locks of this rank.
    fn change(self, step: impl FnOnce(u16) -> u16) {
        let Some(rank) = self.get() else { return };
        let _thread_ends = HELD.try_with(|held| {
            let mut counts = held.get();
            counts[rank as usize] = step(counts[rank as usize]);
            held.set(counts);
        });
    }
}

/// A mutex counted as held by the thread that locked it, until this is dropped. The mutex's guard
/// beside it stays on that thread.
#[derive(Debug)]
pub(crate) struct HeldRank(LockRank);

impl HeldRank {
    /// Counts a mutex that the calling thread has just locked, if it has a rank.
    pub(crate) fn note(rank: LockRank) -> Self {
        rank.change(|count| count + 1);
        Self(rank)
    }
}

impl Drop for HeldRank {
    fn drop(&mut self) {
        self.0.change(|count| count - 1);
    }
}

#[cfg(all(test, debug_assertions, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::Mutex;

    fn waits(first: Rank, second: Rank) -> bool {
        let (first, second) = (Mutex::ranked(first, ()), Mutex::ranked(second, ()));
        let held = first.lock();
        let done =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(second.lock()))).is_ok();
        drop(held);
        done
    }

    /// Section 13: a thread may wait for a later lock under an earlier one, but not vice versa.
    #[test]
    fn a_thread_waits_only_for_later_locks() {
        assert!(waits(Rank::Class, Rank::Zone));
        assert!(!waits(Rank::Zone, Rank::Class));
    }

    #[test]
    fn only_nesting_ranks_allow_two_locks() {
        assert!(waits(Rank::CpuList, Rank::CpuList));
        assert!(!waits(Rank::Class, Rank::Class));
    }

    #[test]
    fn an_earlier_lock_may_be_tried() {
        let (class, zone) = (Mutex::ranked(Rank::Class, ()), Mutex::ranked(Rank::Zone, ()));
        let held = zone.lock();
        assert!(class.try_lock().is_some());
        drop(held);
        drop(class.lock());
    }

    #[test]
    fn a_tried_lock_counts_as_held() {
        let (class, zone) = (Mutex::ranked(Rank::Class, ()), Mutex::ranked(Rank::Zone, ()));
        let held = zone.try_lock();
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(class.lock()))).is_err()
        );
        drop(held);
        drop(class.lock());
    }

    #[test]
    fn no_os_call_under_a_lock_from_class_to_zone() {
        let calls = |rank| {
            let lock = Mutex::ranked(rank, ());
            let _held = lock.lock();
            std::panic::catch_unwind(assert_may_call_os).is_ok()
        };
        let ranks = [
            Rank::Compacting,
            Rank::Device,
            Rank::Chain,
            Rank::Class,
            Rank::Shard,
            Rank::CpuList,
            Rank::Zone,
        ];
        assert_eq!(ranks.map(calls), [true, true, true, false, false, false, false]);
        assert_may_call_os();
    }

    #[test]
    fn waits_for_other_locks_are_checked_too() {
        let class = Mutex::ranked(Rank::Class, ());
        let held = class.lock();
        assert!(std::panic::catch_unwind(|| assert_may_wait(Rank::Chain)).is_err());
        drop(held);
        assert_may_wait(Rank::Chain);
    }
}
