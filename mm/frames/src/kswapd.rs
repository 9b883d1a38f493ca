//! Reclaim in the background, as the kernel's kswapd does it: a thread makes room before requests have to.
//!
//! ```text
//!  free frames
//!  high  ------------------------------------------------- the thread sleeps again
//!                        /  shrinkers: caches, object compaction, balloon
//!  low   ---------------*--------------------------------- a refill of a per-CPU list leaves a reminder
//!  min   -------------------------------------------------
//! ```
//! The reminder is left under the zone lock, where free frames are counted anyway. The thread is woken by the next call that holds no lock
//! ([`Zone::wake_kswapd`]), since that is a system call. When nothing can be reclaimed it waits, longer each time, and requests reclaim for themselves.

use std::sync::Arc;
// Not the modelled atomics: in a model there is no thread, and nothing here ever changes.
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use sync::{Mutex, Rank};
use thiserror::Error;

use crate::buddy::Buddy;
use crate::events::add;
use crate::reclaim::NoLocksHeld;
use crate::units::FrameCount;
use crate::watermarks::{Pressure, Watermarks};
use crate::zone::Zone;

/// Frames reclaimed before it is looked again whether that is enough: the kernel's `SWAP_CLUSTER_MAX`.
const SWAP_CLUSTER_MAX: u64 = 32;
/// How long it waits after its first run in vain.
const MIN_BACKOFF: Duration = Duration::from_millis(10);
/// And at most.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// There is no thread.
const OFF: u8 = 0;
/// It sleeps.
const ASLEEP: u8 = 1;
/// It sleeps, and memory is short.
const WAKE_PENDING: u8 = 2;
/// It was woken, and reclaims or waits to try again.
const AWAKE: u8 = 3;

/// What a zone knows about its thread.
#[derive(Debug)]
pub(crate) struct KswapdState {
    state: AtomicU8,
    thread: Mutex<Option<Thread>>,
}

/// A thread that keeps memory of a zone free as long as this lives. Dropping it ends the thread, which takes one call of a shrinker at most.
#[derive(Debug)]
pub struct Kswapd {
    zone: std::sync::Weak<Zone>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no thread.
#[derive(Debug, Error)]
pub enum KswapdError {
    /// The zone has one already.
    #[error("memory of the zone is reclaimed in the background already")]
    AlreadyRunning,
    /// The OS gives no thread.
    #[error("no thread for reclaim in the background")]
    Thread(#[source] std::io::Error),
}

impl KswapdState {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU8::new(OFF), thread: Mutex::ranked(Rank::Leaf, None) }
    }

    /// One step from one state to another, if it is in that.
    fn change(&self, from: u8, to: u8) -> bool {
        // Relaxed: what is free is ordered by the zone lock, and waking and parking order the rest.
        self.state.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }

    fn is(&self, state: u8) -> bool {
        // Relaxed: as above.
        self.state.load(Relaxed) == state
    }
}

impl Zone {
    /// Wakes the thread that reclaims memory, if it has work. One load if it has not.
    ///
    /// Frames taken under a lock only leave a reminder. The caller holds no lock of a class, a shard or the zone.
    pub fn wake_kswapd(&self) {
        if self.kswapd.is(WAKE_PENDING) && self.kswapd.change(WAKE_PENDING, AWAKE) {
            self.kswapd.thread.lock().iter().for_each(Thread::unpark);
        }
    }

    /// Leaves the reminder when free frames are below the low mark. Under the zone lock, whenever frames were taken.
    pub(crate) fn request_kswapd_if_low(&self, buddy: &Buddy) {
        if self.kswapd.is(ASLEEP) && self.is_below_low(buddy) {
            self.kswapd.change(ASLEEP, WAKE_PENDING);
        }
    }

    fn is_below_low(&self, buddy: &Buddy) -> bool {
        if buddy.is_poisoned() {
            return false;
        }
        let (usable, free) = self.usable_and_free(buddy);
        // No mark is above a fourth of what is usable, which is the cheaper question.
        free.0 < usable.0 / 4 && Watermarks::of(usable).pressure(free) >= Pressure::BelowLow
    }

    /// Frames that are missing to the high mark: none in a poisoned zone, which takes none back.
    fn high_watermark_deficit(&self) -> u64 {
        let Some(buddy) = self.buddy.lock_unpoisoned() else { return 0 };
        let (usable, free) = self.usable_and_free(&buddy);
        Watermarks::of(usable).high.0.saturating_sub(free.0)
    }

    /// Reclaims until free frames are at the high mark. `false` when there is nothing more to be had, or it was told to stop.
    fn balance(&self, stop: &AtomicBool) -> bool {
        add(&self.events.pageoutrun, 1);
        let promise = NoLocksHeld::promise();
        loop {
            // What was freed onto per-CPU lists counts as used there.
            self.drain_lists_above(0);
            let missing = self.high_watermark_deficit();
            if missing == 0 {
                return true;
            }
            // Acquire pairs with the Release in `drop`; it could be Relaxed, for nothing is handed over.
            if stop.load(Acquire) {
                return false;
            }
            let freed = self.shrink(FrameCount(missing.min(SWAP_CLUSTER_MAX)), &promise);
            add(&self.events.pgsteal_kswapd, freed.0);
            self.release_excess_if_due();
            if freed.0 == 0 {
                return false;
            }
        }
    }
}

impl Kswapd {
    /// Starts the thread of a zone. It keeps no zone alive.
    ///
    /// # Errors
    /// [`KswapdError`]; nothing runs then.
    pub fn start(zone: &Arc<Zone>) -> Result<Self, KswapdError> {
        if !zone.kswapd.change(OFF, AWAKE) {
            return Err(KswapdError::AlreadyRunning);
        }
        let (stop, weak) = (Arc::new(AtomicBool::new(false)), Arc::downgrade(zone));
        let (stopped, of) = (Arc::clone(&stop), weak.clone());
        let work = move || {
            let mut backoff = MIN_BACKOFF;
            while !stopped.load(Acquire) {
                let Some(zone) = of.upgrade() else { return };
                let wait = run_once(&zone, &stopped, &mut backoff);
                drop(zone);
                thread::park_timeout(wait);
            }
        };
        match thread::Builder::new().name("memzip-kswapd".into()).spawn(work) {
            Ok(thread) => {
                *zone.kswapd.thread.lock() = Some(thread.thread().clone());
                Ok(Self { zone: weak, stop, thread: Some(thread) })
            }
            Err(error) => {
                zone.kswapd.change(AWAKE, OFF);
                Err(KswapdError::Thread(error))
            }
        }
    }
}

/// Reclaims if there is work. How long to sleep then, unless woken.
fn run_once(zone: &Zone, stop: &AtomicBool, backoff: &mut Duration) -> Duration {
    // A reminder nobody was free to deliver counts, too.
    zone.kswapd.change(WAKE_PENDING, AWAKE);
    if !zone.kswapd.is(AWAKE) {
        return MAX_BACKOFF;
    }
    if !zone.balance(stop) {
        // Still awake, so nobody wakes it: it tries again by itself.
        let wait = *backoff;
        *backoff = (wait * 2).min(MAX_BACKOFF);
        return wait;
    }
    *backoff = MIN_BACKOFF;
    zone.kswapd.change(AWAKE, ASLEEP);
    // Frames that were taken just before that left no reminder.
    let again = zone.is_below_low(&zone.buddy.lock()) && zone.kswapd.change(ASLEEP, AWAKE);
    if again { Duration::ZERO } else { MAX_BACKOFF }
}

impl Drop for Kswapd {
    fn drop(&mut self) {
        // Release pairs with the Acquire of the thread; the unpark alone would do.
        self.stop.store(true, Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.thread().id() != thread::current().id() {
            // A panic in there is told by the panic hook; the caller has no use for it.
            let _ = thread.join();
        }
        if let Some(zone) = self.zone.upgrade() {
            *zone.kswapd.thread.lock() = None;
            // Relaxed: as in `KswapdState::change`.
            zone.kswapd.state.store(OFF, Relaxed);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
#[path = "kswapd_tests.rs"]
mod tests;
