//! The lock of a zone, and in unit tests how long each holder had it.

use std::ops::{Deref, DerefMut};

use sync::{Mutex, MutexGuard, Rank};

use crate::buddy::Buddy;

/// Guards the buddy allocator and all tables of a zone.
#[derive(Debug)]
pub(crate) struct ZoneLock {
    buddy: Mutex<Buddy>,
    /// What the tests measure.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) holds: holds::Holds,
}

/// Holds the [`ZoneLock`]; gives it back on drop.
pub(crate) struct ZoneGuard<'z> {
    buddy: MutexGuard<'z, Buddy>,
    // After the guard: what unlocking costs is a part of it.
    #[cfg(all(test, not(any(loom, shuttle))))]
    _hold: Option<holds::Hold<'z>>,
}

impl ZoneLock {
    pub(crate) fn new(buddy: Buddy) -> Self {
        Self {
            buddy: Mutex::ranked(Rank::Zone, buddy),
            #[cfg(all(test, not(any(loom, shuttle))))]
            holds: holds::Holds::default(),
        }
    }

    pub(crate) fn lock(&self) -> ZoneGuard<'_> {
        ZoneGuard {
            buddy: self.buddy.lock(),
            #[cfg(all(test, not(any(loom, shuttle))))]
            _hold: self.holds.begin(),
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
            let mut holds = self.0.lock().expect("no panic while it is held").take().unwrap_or_default();
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
