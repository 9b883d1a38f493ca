//! Which shard of a sharded structure this thread uses, and how many shards there are by default.

/// Shards of a model that sets no number of its own. loom walks through every schedule, so a second
/// shard is for the models that are about shards.
#[cfg(any(loom, shuttle))]
const MODEL_SHARDS: usize = if cfg!(loom) { 1 } else { 2 };

mod imp {
    use std::cell::Cell;
    #[cfg(not(any(loom, shuttle)))]
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[cfg(not(any(loom, shuttle)))]
    static NEXT: AtomicUsize = AtomicUsize::new(0);

    // A model's threads are fibers of one OS thread, and each test has an OS thread of its own: so
    // these belong to one model. They are no atomics of the model, so they order nothing in it.
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
        // Relaxed: the numbers only spread threads, they order nothing.
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    #[cfg(any(loom, shuttle))]
    fn next() -> usize {
        NEXT.replace(NEXT.get() + 1)
    }

    /// Forgets what the last schedule numbered and set: each schedule begins alike.
    #[cfg(any(loom, shuttle))]
    pub(crate) fn begin_schedule() {
        NEXT.set(0);
        SHARDS.set(super::MODEL_SHARDS);
    }
}

#[cfg(any(loom, shuttle))]
pub(crate) use imp::begin_schedule;

/// A number below `shards` that stays the same for the calling thread and spreads threads evenly.
///
/// Threads are numbered as they first ask. That spreads them better than the CPU number does when
/// there are few, and costs no system call. A model checker numbers the threads of each schedule
/// from 0.
#[must_use]
pub fn this_shard(shards: usize) -> usize {
    imp::number() % shards
}

/// Returns how many shards a structure has that is split for `cpus` CPUs: as many.
///
/// A model checker takes what the model set (`set_shards`) instead: its schedules must not depend
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

/// Sets how many shards the structures of this schedule have. A model calls it before it makes them.
#[cfg(any(loom, shuttle))]
pub fn set_shards(shards: usize) {
    imp::SHARDS.set(shards);
}

/// Each schedule of a model numbers its threads from 0, whatever schedules came before it.
#[cfg(all(test, any(loom, shuttle)))]
fn two_threads_use_two_shards() {
    use crate::thread;

    assert_eq!(default_shards(64), MODEL_SHARDS);
    set_shards(3);
    assert_eq!(default_shards(64), 3, "the model's number, whatever the machine has");
    let other = thread::spawn(|| {
        let mine = this_shard(2);
        thread::yield_now();
        assert_eq!(this_shard(2), mine, "a thread keeps to its shard");
        mine
    });
    let mine = this_shard(2);
    assert_eq!(this_shard(1), 0);
    assert_ne!(mine, other.join().expect("no panic"));
    assert_eq!(
        thread::spawn(|| this_shard(64)).join().expect("no panic"),
        2,
        "the third thread that asks"
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
