//! The lock of a zone, and in unit tests how long each holder had it.
//!
//! A panic that unwinds out of a holder may leave the buddy lists half changed: a frame could be on
//! two of them. Such a zone is *poisoned*, as a mutex of the standard library is. From then on it
//! hands out no frame and takes none back, which [`AllocError::Poisoned`](crate::AllocError) says.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;

use sync::{Mutex, MutexGuard, Rank};

use crate::buddy::Buddy;
use crate::percpu::CpuList;

/// Guards the buddy allocator and all tables of a zone.
#[derive(Debug)]
pub(crate) struct ZoneLock {
    buddy: Mutex<Buddy>,
    /// What is told of a poisoned zone, so that it hands out none of the frames at hand.
    lists: Arc<[CpuList]>,
    /// What the tests measure.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) holds: holds::Holds,
}

/// Holds the [`ZoneLock`]; gives it back on drop.
pub(crate) struct ZoneGuard<'z> {
    lists: &'z [CpuList],
    /// The thread was unwinding before it took the lock.
    was_panicking: bool,
    buddy: MutexGuard<'z, Buddy>,
    // After the guard: what unlocking costs is a part of it.
    #[cfg(all(test, not(any(loom, shuttle))))]
    _hold: Option<holds::Hold<'z>>,
}

impl ZoneLock {
    pub(crate) fn new(buddy: Buddy, lists: Arc<[CpuList]>) -> Self {
        Self {
            buddy: Mutex::ranked(Rank::Zone, buddy),
            lists,
            #[cfg(all(test, not(any(loom, shuttle))))]
            holds: holds::Holds::default(),
        }
    }

    pub(crate) fn lock(&self) -> ZoneGuard<'_> {
        ZoneGuard {
            lists: &self.lists,
            was_panicking: thread::panicking(),
            buddy: self.buddy.lock(),
            #[cfg(all(test, not(any(loom, shuttle))))]
            _hold: self.holds.begin(),
        }
    }

    /// Takes the lock for a change of the books; `None` when the zone is poisoned.
    pub(crate) fn lock_unpoisoned(&self) -> Option<ZoneGuard<'_>> {
        Some(self.lock()).filter(|buddy| !buddy.is_poisoned())
    }

    /// Returns whether a panic left the free lists half changed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.lists.first().is_some_and(CpuList::is_poisoned)
    }
}

impl Drop for ZoneGuard<'_> {
    /// Poisons the zone when a panic began while the lock was held. A destructor that takes the
    /// lock while another panic unwinds leaves the zone as it is.
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

/// CPU time that threads spent with the lock in their hands.
#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod holds {
    use std::sync::Mutex;
    use std::time::Duration;

    use sys::host::thread_cpu_time;

    /// Every hold since it was switched on.
    #[derive(Debug, Default)]
    pub(crate) struct Holds(Mutex<Option<Vec<Duration>>>);

    /// One hold; ends on drop.
    pub(crate) struct Hold<'z> {
        holds: &'z Holds,
        since: Duration,
    }

    impl Holds {
        pub(super) fn begin(&self) -> Option<Hold<'_>> {
            let on = self.0.lock().expect("no panic while it is held").is_some();
            on.then(|| Hold { holds: self, since: thread_cpu_time() })
        }

        /// Forgets what was measured and measures from here on.
        pub(crate) fn start(&self) {
            *self.0.lock().expect("no panic while it is held") = Some(Vec::new());
        }

        /// What was measured since [`Holds::start`], shortest first.
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
