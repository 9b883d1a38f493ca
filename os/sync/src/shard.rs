//! Shards: which one the calling thread uses, and how many a structure has by default.

/// Shards in a model that sets no number of its own. loom runs every schedule, so only the models
/// that test shards use a second one.
#[cfg(any(loom, shuttle))]
const MODEL_SHARDS: usize = if cfg!(loom) { 1 } else { 2 };

mod imp {
    use std::cell::Cell;
    #[cfg(not(any(loom, shuttle)))]
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[cfg(not(any(loom, shuttle)))]
    static NEXT: AtomicUsize = AtomicUsize::new(0);

    // A model's threads are fibers of one OS thread, and each test has its own OS thread, so these
    // belong to one model. They are not atomics of the model, so they order nothing in it.
    #[cfg(any(loom, shuttle))]
    std::thread_local! {
        static NEXT: Cell<usize> = const { Cell::new(0) };
        pub(super) static SHARDS: Cell<usize> = const { Cell::new(super::MODEL_SHARDS) };
    }

    #[cfg(not(any(loom, shuttle)))]
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    #[cfg(loom)]
    loom::thread_local! {
        static MINE: Cell<usize> = Cell::new(usize::MAX);
    }
    #[cfg(shuttle)]
    shuttle::thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    pub(super) fn number() -> usize {
        MINE.with(|mine| {
            if mine.get() == usize::MAX {
                mine.set(next());
            }
            mine.get()
        })
    }

    #[cfg(not(any(loom, shuttle)))]
    fn next() -> usize {
        // Relaxed: the number only spreads threads over shards; it orders nothing.
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    #[cfg(any(loom, shuttle))]
    fn next() -> usize {
        NEXT.replace(NEXT.get() + 1)
    }

    /// Resets the thread numbers and the number of shards, so that all schedules begin alike.
    #[cfg(any(loom, shuttle))]
    pub(crate) fn begin_schedule() {
        NEXT.set(0);
        SHARDS.set(super::MODEL_SHARDS);
    }
}

#[cfg(any(loom, shuttle))]
pub(crate) use imp::begin_schedule;

/// Returns a number below `shards` that is constant for the calling thread and spreads threads
/// evenly.
///
/// Threads are numbered in the order of their first call. With few threads that spreads them better
/// than CPU numbers do, and it costs no system call. A model checker numbers the threads of each
/// schedule from 0.
#[must_use]
pub fn this_shard(shards: usize) -> usize {
    imp::number() % shards
}

/// Returns the number of shards of a structure for `cpus` CPUs: one per CPU.
///
/// A model checker uses the number set by `set_shards` instead, since its schedules must not depend
/// on the machine.
#[must_use]
pub fn default_shards(cpus: usize) -> usize {
    #[cfg(any(loom, shuttle))]
    let cpus = {
        let _ = cpus;
        imp::SHARDS.get()
    };
    cpus
}

/// Sets the number of shards for structures that this schedule creates from now on.
#[cfg(any(loom, shuttle))]
pub fn set_shards(shards: usize) {
    imp::SHARDS.set(shards);
}

/// Each schedule of a model numbers its threads from 0, independent of earlier schedules.
#[cfg(all(test, any(loom, shuttle)))]
fn two_threads_use_two_shards() {
    use crate::thread;

    assert_eq!(default_shards(64), MODEL_SHARDS);
    set_shards(3);
    assert_eq!(default_shards(64), 3, "the model's number, not the machine's");
    let other = thread::spawn(|| {
        let mine = this_shard(2);
        thread::yield_now();
        assert_eq!(this_shard(2), mine, "a thread keeps its shard");
        mine
    });
    let mine = this_shard(2);
    assert_eq!(this_shard(1), 0);
    assert_ne!(mine, other.join().expect("no panic"));
    assert_eq!(
        thread::spawn(|| this_shard(64)).join().expect("no panic"),
        2,
        "the third thread to call"
    );
}

#[cfg(all(test, loom))]
mod loom_tests {
    #[test]
    fn each_schedule_gives_two_threads_two_shards() {
        crate::model(super::two_threads_use_two_shards);
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests {
    #[test]
    fn each_schedule_gives_two_threads_two_shards() {
        crate::check_random(super::two_threads_use_two_shards, 20);
    }
}
