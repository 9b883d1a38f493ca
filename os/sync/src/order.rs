//! The order in which a thread may wait for locks, checked at run time in debug builds.
//!
//! Each lock has a [`Rank`], its row in `docs/locking.md`. A thread that holds a lock may wait only
//! for locks of a later rank; it may *try* any lock. [`Mutex::ranked`](crate::Mutex::ranked) checks
//! this before each wait. [`assert_may_wait`] is the check for locks that are not mutexes. The
//! check counts the locks of the calling thread, so it reports a wrong order without a deadlock.
//!
//! Release builds and model checkers contain none of this: loom and shuttle report the deadlock.

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

impl Rank {
    /// Returns whether a thread may hold several locks of this rank.
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    const fn nests(self) -> bool {
        matches!(self, Self::Chain | Self::CpuList)
    }
}

/// Checks that the calling thread may wait for a lock of `rank`. Does nothing in release builds.
///
/// # Panics
/// In debug builds, when the thread holds a lock of a later rank, or another one of this rank that
/// does not nest.
#[inline]
#[track_caller]
pub fn assert_may_wait(rank: Rank) {
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    checked::assert_may_wait(rank);
    #[cfg(not(all(debug_assertions, not(any(loom, shuttle)))))]
    let _ = rank;
}

/// Checks that the calling thread may make a slow system call such as `madvise`: it holds no lock
/// that other threads wait for on a hot path. Does nothing in release builds.
///
/// # Panics
/// In debug builds, when the thread holds a lock of a rank from [`Rank::Class`] to [`Rank::Zone`].
#[inline]
#[track_caller]
pub fn assert_may_call_os() {
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    checked::assert_may_call_os();
}

#[cfg(all(debug_assertions, not(any(loom, shuttle))))]
pub(crate) use checked::HeldRank;

#[cfg(all(debug_assertions, not(any(loom, shuttle))))]
mod checked {
    use super::Rank;
    use std::cell::Cell;
    use std::marker::PhantomData;

    const RANKS: usize = Rank::Leaf as usize + 1;

    thread_local! {
        /// Locks of each rank that this thread holds.
        static HELD: Cell<[u16; RANKS]> = const { Cell::new([0; RANKS]) };
    }

    #[track_caller]
    pub(super) fn assert_may_wait(rank: Rank) {
        let first = rank as usize + usize::from(rank.nests());
        // A thread that is ending has no thread-local storage left; nothing is checked then.
        let held = HELD.try_with(|held| held.get()).unwrap_or_default();
        let later = held.iter().enumerate().skip(first).find(|(_, count)| **count > 0);
        if let Some((held, _)) = later {
            panic!(
                "lock order: a thread waits for {rank:?} while it holds a lock of rank {held}, \
                 see docs/locking.md"
            );
        }
    }

    #[track_caller]
    pub(super) fn assert_may_call_os() {
        let held = HELD.try_with(|held| held.get()).unwrap_or_default();
        let ranks = Rank::Class as usize..=Rank::Zone as usize;
        // A second panic would abort.
        if !std::thread::panicking()
            && let Some(rank) = ranks.into_iter().find(|&rank| held[rank] > 0)
        {
            panic!(
                "the OS is called while this thread holds a lock of rank {rank}, \
                 see docs/locking.md"
            );
        }
    }

    /// A lock counted as held by the calling thread, until this is dropped.
    #[derive(Debug)]
    pub(crate) struct HeldRank {
        rank: Option<Rank>,
        /// The count belongs to the thread that took the lock.
        _not_send: PhantomData<*const ()>,
    }

    impl HeldRank {
        /// Counts a lock that the calling thread has just taken. A lock without a rank is not
        /// counted.
        pub(crate) fn note(rank: Option<Rank>) -> Self {
            change(rank, |count| count + 1);
            Self { rank, _not_send: PhantomData }
        }
    }

    impl Drop for HeldRank {
        fn drop(&mut self) {
            change(self.rank, |count| count - 1);
        }
    }

    fn change(rank: Option<Rank>, step: impl FnOnce(u16) -> u16) {
        let Some(rank) = rank else { return };
        let _thread_ends = HELD.try_with(|held| {
            let mut counts = held.get();
            counts[rank as usize] = step(counts[rank as usize]);
            held.set(counts);
        });
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
