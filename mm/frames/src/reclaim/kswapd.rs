//! Background reclaim, like the kernel's kswapd: below the low watermark a thread calls shrinkers,
//! until the high one is reached, so that requests need not.
//!
//! A refill of a per-CPU list sets a flag, and the next call that holds no lock wakes the thread
//! ([`Zone::wake_kswapd`]). When nothing can be reclaimed, the thread waits, longer each time, and
//! requests reclaim directly.

use std::sync::Arc;
// Not the modelled atomics: in a model the thread does not exist and these values do not change.
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;

use crate::units::FrameCount;
use crate::zone::{KswapdPhase, NoLocksHeld, Watermarks, Zone, add};

/// The frames reclaimed before the watermark is checked again: the kernel's `SWAP_CLUSTER_MAX`.
const SWAP_CLUSTER_MAX: u64 = 32;
/// How long the thread waits after its first failed run.
const MIN_BACKOFF: Duration = Duration::from_millis(10);
/// The longest that it waits.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

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

impl Kswapd {
    /// Starts the kswapd thread of a zone. The thread does not keep the zone alive.
    ///
    /// # Errors
    /// [`KswapdError`]; no thread runs then.
    pub fn start(zone: &Arc<Zone>) -> Result<Self, KswapdError> {
        if !zone.allocator().kswapd.change(KswapdPhase::Off, KswapdPhase::Awake) {
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
        let spawned = thread::Builder::new().name("memzip-kswapd".into()).spawn(work);
        let thread = spawned.map_err(|error| {
            zone.allocator().kswapd.change(KswapdPhase::Awake, KswapdPhase::Off);
            KswapdError::Thread(error)
        })?;
        *zone.allocator().kswapd.thread.lock() = Some(thread.thread().clone());
        Ok(Self { zone: weak, stop, thread: Some(thread) })
    }
}

/// Reclaims until free frames reach the high watermark. Returns `false` when nothing more can
/// be reclaimed or `stop` is set.
fn balance(zone: &Zone, stop: &AtomicBool) -> bool {
    add(&zone.events().pageoutrun, 1);
    let (allocator, promise) = (zone.allocator(), NoLocksHeld::promise());
    loop {
        // Frames freed to per-CPU lists still count as used.
        allocator.drain_lists_above(0);
        let missing = allocator.with_buddy(|buddy, _| {
            let (usable, free) = allocator.usable_and_free(buddy);
            Watermarks::of(usable).high.0.saturating_sub(free.0)
        });
        // In a poisoned zone nothing is missing: it accepts no frames.
        let missing = missing.unwrap_or(0);
        if missing == 0 {
            return true;
        }
        // Acquire pairs with the Release in `drop`. Relaxed would do: no data is passed.
        if stop.load(Acquire) {
            return false;
        }
        let freed = zone.shrink(FrameCount(missing.min(SWAP_CLUSTER_MAX)), &promise);
        add(&zone.events().pgsteal_kswapd, freed.0);
        zone.release_excess_if_due();
        if freed.0 == 0 {
            return false;
        }
    }
}

/// Reclaims if there is work. Returns how long to sleep afterwards, unless woken.
fn run_once(zone: &Zone, stop: &AtomicBool, backoff: &mut Duration) -> Duration {
    // A flag whose setter has not woken the thread counts, too.
    zone.allocator().kswapd.change(KswapdPhase::WakePending, KswapdPhase::Awake);
    if !zone.allocator().kswapd.is(KswapdPhase::Awake) {
        return MAX_BACKOFF;
    }
    if !balance(zone, stop) {
        // The state stays AWAKE, so no thread wakes this one: it tries again after a while.
        let wait = *backoff;
        *backoff = (wait * 2).min(MAX_BACKOFF);
        return wait;
    }
    *backoff = MIN_BACKOFF;
    zone.allocator().kswapd.change(KswapdPhase::Awake, KswapdPhase::Asleep);
    // Frames that were taken just before that did not set the flag.
    let allocator = zone.allocator();
    let again = allocator.read_buddy(|buddy| allocator.is_below_low(buddy))
        && zone.allocator().kswapd.change(KswapdPhase::Asleep, KswapdPhase::Awake);
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
            zone.allocator().kswapd.clear_thread();
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
