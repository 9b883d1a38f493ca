//! Background reclaim, like the kernel's kswapd: a thread frees memory before requests have to.
//!
//! ```text
//!  free frames
//!  high  ------------------------------------------------- the thread sleeps again
//!                        /  shrinkers: caches, object compaction, balloon
//!  low   ---------------*--------------------------------- a refill of a per-CPU list sets a flag
//!  min   -------------------------------------------------
//! ```
//! The flag is set under the zone lock, where free frames are counted anyway. Waking the thread
//! is a system call, so the next call that holds no lock does it ([`Zone::wake_kswapd`]). When
//! nothing can be reclaimed, the thread waits, longer each time, and requests reclaim directly.

use std::sync::Arc;
// Not the modelled atomics: in a model the thread does not exist and these values do not change.
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

/// The frames reclaimed before the watermark is checked again: the kernel's `SWAP_CLUSTER_MAX`.
const SWAP_CLUSTER_MAX: u64 = 32;
/// How long the thread waits after its first failed run.
const MIN_BACKOFF: Duration = Duration::from_millis(10);
/// The longest that it waits.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The state of a zone without a thread.
const OFF: u8 = 0;
/// The state of a sleeping thread.
const ASLEEP: u8 = 1;
/// The state of a sleeping thread while memory is short: the flag is set.
const WAKE_PENDING: u8 = 2;
/// The state of a thread that was woken: it reclaims, or waits to try again.
const AWAKE: u8 = 3;

/// What a zone knows about its kswapd thread.
#[derive(Debug)]
pub(crate) struct KswapdState {
    state: AtomicU8,
    thread: Mutex<Option<Thread>>,
}

/// The kswapd thread of a zone. Dropping it stops the thread, which takes at most one call of a
/// shrinker.
#[derive(Debug)]
pub struct Kswapd {
    zone: std::sync::Weak<Zone>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why the thread did not start.
#[derive(Debug, Error)]
pub enum KswapdError {
    /// The zone already has a thread.
    #[error("the zone already has a kswapd thread")]
    AlreadyRunning,
    /// The OS created no thread.
    #[error("the OS created no kswapd thread")]
    Thread(#[source] std::io::Error),
}

impl KswapdState {
    /// Creates the state of a zone without a thread.
    pub(crate) fn new() -> Self {
        Self { state: AtomicU8::new(OFF), thread: Mutex::ranked(Rank::Leaf, None) }
    }

    /// Changes the state if it is `from`; returns whether it did.
    fn change(&self, from: u8, to: u8) -> bool {
        // Relaxed: the zone lock orders free frames, and unparking orders the rest.
        self.state.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }

    fn is(&self, state: u8) -> bool {
        // Relaxed: as above.
        self.state.load(Relaxed) == state
    }
}

impl Zone {
    /// Wakes the kswapd thread if it has work. One load if it has none.
    ///
    /// Allocating under a lock only sets a flag. The caller holds no lock of a class, a shard or
    /// the zone.
    pub fn wake_kswapd(&self) {
        if self.kswapd.is(WAKE_PENDING) && self.kswapd.change(WAKE_PENDING, AWAKE) {
            self.kswapd.thread.lock().iter().for_each(Thread::unpark);
        }
    }

    /// Sets the flag when free frames are below the low watermark. Called under the zone lock
    /// after frames were taken.
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
        // No watermark is above a fourth of the usable frames, which is the cheaper test.
        free.0 < usable.0 / 4 && Watermarks::of(usable).pressure(free) >= Pressure::BelowLow
    }

    /// Returns the frames missing to the high watermark: 0 in a poisoned zone, which accepts no
    /// frames.
    fn high_watermark_deficit(&self) -> u64 {
        let Some(buddy) = self.buddy.lock_unpoisoned() else { return 0 };
        let (usable, free) = self.usable_and_free(&buddy);
        Watermarks::of(usable).high.0.saturating_sub(free.0)
    }

    /// Reclaims until free frames reach the high watermark. Returns `false` when nothing more can
    /// be reclaimed or `stop` is set.
    fn balance(&self, stop: &AtomicBool) -> bool {
        add(&self.events.pageoutrun, 1);
        let promise = NoLocksHeld::promise();
        loop {
            // Frames freed to per-CPU lists still count as used.
            self.drain_lists_above(0);
            let missing = self.high_watermark_deficit();
            if missing == 0 {
                return true;
            }
            // Acquire pairs with the Release in `drop`. Relaxed would do: no data is passed.
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
    /// Starts the kswapd thread of a zone. The thread does not keep the zone alive.
    ///
    /// # Errors
    /// [`KswapdError`]; no thread runs then.
    pub fn start(zone: &Arc<Zone>) -> Result<Self, KswapdError> {
        if !zone.kswapd.change(OFF, AWAKE) {
            return Err(KswapdError::AlreadyRunning);
        }
        let (stop, weak) = (Arc::new(AtomicBool::new(false)), Arc::downgrade(zone));
        let (stopped, of) = (Arc::clone(&stop), weak.clone());
        // The zone is upgraded for one run at a time, so that it can be dropped between runs.
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

/// Reclaims if there is work. Returns how long to sleep afterwards, unless woken.
fn run_once(zone: &Zone, stop: &AtomicBool, backoff: &mut Duration) -> Duration {
    // A flag whose setter has not woken the thread counts, too.
    zone.kswapd.change(WAKE_PENDING, AWAKE);
    if !zone.kswapd.is(AWAKE) {
        return MAX_BACKOFF;
    }
    if !zone.balance(stop) {
        // The state stays AWAKE, so no thread wakes this one: it tries again after a while.
        let wait = *backoff;
        *backoff = (wait * 2).min(MAX_BACKOFF);
        return wait;
    }
    *backoff = MIN_BACKOFF;
    zone.kswapd.change(AWAKE, ASLEEP);
    // Frames that were taken just before that did not set the flag.
    let again = zone.is_below_low(&zone.buddy.lock()) && zone.kswapd.change(ASLEEP, AWAKE);
    if again { Duration::ZERO } else { MAX_BACKOFF }
}

impl Drop for Kswapd {
    fn drop(&mut self) {
        // Release pairs with the thread's Acquire. The unpark alone would do.
        self.stop.store(true, Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.thread().id() != thread::current().id() {
            // The panic hook reports a panic of the thread; the caller cannot use it.
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
