//! The order in which a thread may wait for locks, checked at run time in debug builds.
//!
//! Each lock has a [`Rank`], its row in `docs/locking.md`. A thread that holds a lock may wait only for locks of a later rank; it may *try*
//! any other. [`Mutex::ranked`](crate::Mutex::ranked) checks this each time it waits, and [`assert_may_wait`] checks it for locks that are
//! not mutexes. The check counts what the calling thread holds, so it reports an order that could deadlock although nothing did.
//!
//! Release builds and model checkers contain none of this: loom and shuttle find the deadlock itself.

/// The place of a lock in the order, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// One thread at a time asks the shrinkers for room for a store.
    Reclaim,
    /// One thread at a time compacts a zone for a request.
    Compacting,
    /// The messages to one balloon's host.
    Device,
    /// The working memory of one codec.
    Stream,
    /// The bytes and frame numbers of one chain. Readers wait; everyone else tries.
    Chain,
    /// The zspages of one size class.
    Class,
    /// Numbers that are free to take.
    Shard,
    /// Free frames of one CPU list. A thread that takes several goes by ascending list number.
    CpuList,
    /// The buddy lists and the limit of one zone.
    Zone,
    /// A lock under which no thread waits for another lock.
    Leaf,
}

impl Rank {
    /// Whether one thread may hold several locks of this rank.
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    const fn nests(self) -> bool {
        matches!(self, Self::Chain | Self::CpuList)
    }
}

/// Checks that the calling thread may wait for a lock of `rank`. Does nothing in release builds.
///
/// # Panics
/// In debug builds, when the thread holds a lock of a later rank, or another one of this rank that does not nest.
#[inline]
#[track_caller]
pub fn assert_may_wait(rank: Rank) {
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    checked::assert_may_wait(rank);
    #[cfg(not(all(debug_assertions, not(any(loom, shuttle)))))]
    let _ = rank;
}

/// Checks that the calling thread may make a system call that takes long, such as `madvise`: it holds
/// no lock that others wait for on a hot path. Does nothing in release builds.
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
        // A thread that unwinds or ends has no thread-local storage left: nothing to check then.
        let held = HELD.try_with(|held| held.get()).unwrap_or_default();
        let later = held.iter().enumerate().skip(first).find(|(_, count)| **count > 0);
        if let Some((place, _)) = later {
            panic!(
                "lock order: a thread waits for {rank:?} while it holds a lock of place {place}, see docs/locking.md"
            );
        }
    }

    #[track_caller]
    pub(super) fn assert_may_call_os() {
        let held = HELD.try_with(|held| held.get()).unwrap_or_default();
        let ranks = Rank::Class as usize..=Rank::Zone as usize;
        // A second panic would abort.
        if !std::thread::panicking()
            && let Some(place) = ranks.into_iter().find(|&place| held[place] > 0)
        {
            panic!(
                "the OS is called while this thread holds a lock of place {place}, see docs/locking.md"
            );
        }
    }

    /// Counts a lock as held by the calling thread until it is dropped.
    #[derive(Debug)]
    pub(crate) struct HeldRank {
        rank: Option<Rank>,
        /// The count belongs to the thread.
        _not_send: PhantomData<*const ()>,
    }

    impl HeldRank {
        /// Notes a lock the calling thread has just taken; a lock without rank is not counted.
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

    /// Section 13: a later lock may be waited for under an earlier one, and not the other way round.
    #[test]
    fn a_thread_waits_only_for_later_locks() {
        assert!(waits(Rank::Class, Rank::Zone));
        assert!(!waits(Rank::Zone, Rank::Class));
    }

    #[test]
    fn two_locks_of_a_rank_only_where_they_nest() {
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
    fn the_os_is_called_with_no_lock_from_class_to_zone() {
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
    fn a_wait_that_is_no_mutex_is_checked() {
        let class = Mutex::ranked(Rank::Class, ());
        let held = class.lock();
        assert!(std::panic::catch_unwind(|| assert_may_wait(Rank::Chain)).is_err());
        drop(held);
        assert_may_wait(Rank::Chain);
    }
}
