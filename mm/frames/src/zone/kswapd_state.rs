//! What a zone knows about its kswapd thread.

// Not the modelled atomics: in a model the thread does not exist and these values do not change.
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::Thread;

use sync::{Mutex, Rank};

/// What the thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KswapdPhase {
    /// There is no thread.
    Off,
    /// It sleeps.
    Asleep,
    /// It sleeps while memory is short: the flag is set.
    WakePending,
    /// It was woken: it reclaims, or waits to try again.
    Awake,
}

/// The phase of the thread, and how to wake it.
#[derive(Debug)]
pub(crate) struct KswapdState {
    phase: AtomicU8,
    /// The thread that runs now.
    pub(crate) thread: Mutex<Option<Thread>>,
}

impl KswapdState {
    pub(crate) fn new() -> Self {
        Self {
            phase: AtomicU8::new(KswapdPhase::Off as u8),
            thread: Mutex::ranked(Rank::Leaf, None),
        }
    }

    /// Changes the phase if it is `from`; returns whether it did.
    pub(crate) fn change(&self, from: KswapdPhase, to: KswapdPhase) -> bool {
        // Relaxed: the zone lock orders free frames, and unparking orders the rest.
        self.phase.compare_exchange(from as u8, to as u8, Relaxed, Relaxed).is_ok()
    }

    pub(crate) fn is(&self, phase: KswapdPhase) -> bool {
        // Relaxed: as above.
        self.phase.load(Relaxed) == phase as u8
    }

    /// Notes that the thread has ended.
    pub(crate) fn clear_thread(&self) {
        *self.thread.lock() = None;
        // Relaxed: as above.
        self.phase.store(KswapdPhase::Off as u8, Relaxed);
    }

    pub(crate) fn unpark(&self) {
        self.thread.lock().iter().for_each(Thread::unpark);
    }
}
