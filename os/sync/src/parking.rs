//! Waiting for an atomic word to change, without using the CPU.

use crate::mutex::imp;

/// Buckets of one parking lot. Words that share one wake each other's waiters, which check again.
const BUCKETS: usize = if cfg!(any(loom, shuttle)) { 1 } else { 16 };

/// A place where threads sleep until the word they wait for changes, like WebKit's `ParkingLot`.
///
/// The word itself says whether a thread waits, in a bit. A thread that changes the word calls
/// [`ParkingLot::unpark_all`] only if it saw that bit: a change without waiters costs nothing.
///
/// # No wake-up is lost
/// The waiter sets the bit and falls asleep under the bucket's mutex. A thread that changes the
/// word after the bit was set sees the bit and takes the same mutex before it wakes the bucket; by
/// then the waiter sleeps. A thread that changed the word before that made the waiter's condition
/// false, so the waiter does not sleep.
#[derive(Debug)]
pub struct ParkingLot {
    buckets: Box<[Bucket]>,
}

#[derive(Debug)]
struct Bucket {
    /// Guards no data: it orders setting the bit, falling asleep and waking.
    lock: imp::Mutex<()>,
    changed: imp::Condvar,
}

impl Default for ParkingLot {
    fn default() -> Self {
        let bucket = |_| Bucket { lock: imp::Mutex::new(()), changed: imp::Condvar::new() };
        Self { buckets: (0..BUCKETS).map(bucket).collect() }
    }
}

impl ParkingLot {
    fn bucket(&self, key: usize) -> &Bucket {
        &self.buckets[key % self.buckets.len()]
    }

    /// Sleeps until the next [`ParkingLot::unpark_all`] with this key. May return early: the caller
    /// checks the word again.
    ///
    /// `announce` sets the waiters' bit in the word and returns `true`, or returns `false` when the
    /// word has changed already, and the call returns.
    ///
    /// Locking: the bucket's mutex, unlocked while the thread sleeps.
    pub fn park(&self, key: usize, announce: impl FnOnce() -> bool) {
        let bucket = self.bucket(key);
        let guard = imp::lock(&bucket.lock);
        if announce() {
            imp::wait(&bucket.changed, guard);
        }
    }

    /// Wakes all threads that sleep under this key. The caller saw the bit as it changed the word.
    ///
    /// Locking: the bucket's mutex, briefly.
    pub fn unpark_all(&self, key: usize) {
        let bucket = self.bucket(key);
        drop(imp::lock(&bucket.lock));
        bucket.changed.notify_all();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::atomic::{AtomicU32, Ordering::SeqCst};

    /// Each round, one thread waits for a word that the other one changes.
    #[test]
    fn no_wake_up_is_lost() {
        let (lot, word) = (ParkingLot::default(), AtomicU32::new(0));
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=rounds {
                    // The low bit says that the waiter sleeps.
                    let before = word.swap(round * 2, SeqCst);
                    if before & 1 != 0 {
                        lot.unpark_all(7);
                    }
                    while word.load(SeqCst) >> 1 == round {
                        std::thread::yield_now();
                    }
                }
            });
            for round in 1..=rounds {
                let waits = |seen: u32| (seen >> 1 != round).then_some(seen | 1);
                while word.load(SeqCst) >> 1 != round {
                    lot.park(7, || word.fetch_update(SeqCst, SeqCst, waits).is_ok());
                }
                word.store(0, SeqCst);
            }
        });
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::atomic::{AtomicU32, Ordering::Relaxed};
    use crate::{Arc, thread};

    const HELD: u32 = 1;
    const WAITED_FOR: u32 = 2;

    /// A waiter against a holder that unlocks: loom reports a waiter that is never woken as a
    /// deadlock.
    #[test]
    fn no_wake_up_is_lost() {
        crate::model(|| {
            let (lot, word) = (Arc::new(ParkingLot::default()), Arc::new(AtomicU32::new(HELD)));
            let holder = {
                let (lot, word) = (Arc::clone(&lot), Arc::clone(&word));
                thread::spawn(move || {
                    if word.swap(0, Relaxed) & WAITED_FOR != 0 {
                        lot.unpark_all(0);
                    }
                })
            };
            let waits = |seen: u32| (seen & HELD != 0).then_some(seen | WAITED_FOR);
            while word.load(Relaxed) & HELD != 0 {
                lot.park(0, || word.fetch_update(Relaxed, Relaxed, waits).is_ok());
            }
            holder.join().expect("no panic");
        });
    }
}
