//! The lock of a zone. Unit tests also measure how long it is held.
//!
//! A panic that unwinds out of a holder may leave the buddy lists half changed: a frame could be on
//! two of them. Such a zone is *poisoned*, like a mutex of the standard library. It then allocates
//! no frame and takes none back; requests return [`AllocError::Poisoned`](crate::AllocError).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;

use sync::{Mutex, MutexGuard, Rank};

use super::pcp::CpuList;
use crate::buddy::Buddy;

/// The lock of the buddy allocator and all tables of a zone.
#[derive(Debug)]
pub(crate) struct ZoneLock {
    buddy: Mutex<Buddy>,
    /// The per-CPU lists, which are poisoned together with the zone.
    lists: Arc<[CpuList]>,
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) holds: holds::Holds,
}

/// A locked [`ZoneLock`]. Dropping it unlocks.
pub(crate) struct ZoneGuard<'z> {
    lists: &'z [CpuList],
    /// Whether the thread was unwinding before it took the lock.
    was_panicking: bool,
    buddy: MutexGuard<'z, Buddy>,
    // After the guard, so that the time includes unlocking.
    #[cfg(all(test, not(any(loom, shuttle))))]
    _hold: Option<holds::Hold<'z>>,
}

impl ZoneLock {
    /// Wraps the allocator. A panic under the lock poisons `lists`, too.
    pub(crate) fn new(buddy: Buddy, lists: Arc<[CpuList]>) -> Self {
        Self {
            buddy: Mutex::ranked(Rank::Zone, buddy),
            lists,
            #[cfg(all(test, not(any(loom, shuttle))))]
            holds: holds::Holds::default(),
        }
    }

    /// Takes the lock, of a poisoned zone, too.
    pub(crate) fn lock(&self) -> ZoneGuard<'_> {
        ZoneGuard {
            lists: &self.lists,
            was_panicking: thread::panicking(),
            buddy: self.buddy.lock(),
            #[cfg(all(test, not(any(loom, shuttle))))]
            _hold: self.holds.begin(),
        }
    }

    /// Takes the lock to change the accounting. Returns `None` when the zone is poisoned.
    pub(crate) fn lock_unpoisoned(&self) -> Option<ZoneGuard<'_>> {
        Some(self.lock()).filter(|buddy| !buddy.is_poisoned())
    }

    /// Returns whether a panic left the free lists half changed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.lists.first().is_some_and(CpuList::is_poisoned)
    }
}

impl Drop for ZoneGuard<'_> {
    /// Poisons the zone if a panic began while the lock was held. A destructor that takes the lock
    /// while another panic unwinds does not poison it.
    fn drop(&mut self) {
        if !self.was_panicking && thread::panicking() {
            self.buddy.poison();
            self.lists.iter().for_each(CpuList::poison);
        }
    }
}

impl Deref for ZoneGuard<'_> {
    type Target = Buddy;

    fn deref(&self) -> &Buddy {
        &self.buddy
    }
}

impl DerefMut for ZoneGuard<'_> {
    fn deref_mut(&mut self) -> &mut Buddy {
        &mut self.buddy
    }
}

/// CPU time for which threads held the lock.
#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod holds {
    use std::sync::Mutex;
    use std::time::Duration;

    use sys::host::thread_cpu_time;

    /// Every hold since measurement started; `None` while it is off.
    #[derive(Debug, Default)]
    pub(crate) struct Holds(Mutex<Option<Vec<Duration>>>);

    /// One hold. Dropping it records the time.
    pub(crate) struct Hold<'z> {
        holds: &'z Holds,
        since: Duration,
    }

    impl Holds {
        /// Starts the time of one hold, if measurement is on.
        pub(super) fn begin(&self) -> Option<Hold<'_>> {
            let on = self.0.lock().expect("no panic while it is held").is_some();
            on.then(|| Hold { holds: self, since: thread_cpu_time() })
        }

        /// Discards earlier measurements and starts measuring.
        pub(crate) fn start(&self) {
            *self.0.lock().expect("no panic while it is held") = Some(Vec::new());
        }

        /// Stops measuring. Returns the times since [`Holds::start`], shortest first.
        pub(crate) fn stop(&self) -> Vec<Duration> {
            let mut holds =
                self.0.lock().expect("no panic while it is held").take().unwrap_or_default();
            holds.sort_unstable();
            holds
        }
    }

    impl Drop for Hold<'_> {
        fn drop(&mut self) {
            let took = thread_cpu_time().saturating_sub(self.since);
            if let Some(holds) = self.holds.0.lock().expect("no panic while it is held").as_mut() {
                holds.push(took);
            }
        }
    }
}
