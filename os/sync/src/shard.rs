//! Which shard of a sharded structure this thread uses.

#[cfg(not(any(loom, shuttle)))]
mod imp {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    pub(super) fn number() -> usize {
        MINE.with(|mine| {
            if mine.get() == usize::MAX {
                // Relaxed: the numbers only spread threads, they order nothing.
                mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            mine.get()
        })
    }
}

/// A number below `shards` that stays the same for the calling thread and spreads threads evenly.
///
/// Threads are numbered as they first ask, which spreads them better than the CPU number does when there are few, and costs no system call.
#[must_use]
pub fn this_shard(shards: usize) -> usize {
    #[cfg(not(any(loom, shuttle)))]
    return imp::number() % shards;
    #[cfg(any(loom, shuttle))]
    return 0 % shards;
}
