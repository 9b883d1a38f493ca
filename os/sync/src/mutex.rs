//! A mutex without poisoning, optionally with a rank in the lock order.

use crate::order::{HeldRank, LockRank, Rank, assert_may_wait};

#[cfg(not(any(loom, shuttle)))]
pub(crate) mod imp {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock()
    }
    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock()
    }
    pub(crate) fn wait<T>(condition: &Condvar, mut guard: MutexGuard<'_, T>) {
        condition.wait(&mut guard);
    }
}

#[cfg(any(loom, shuttle))]
pub(crate) mod imp {
    pub(crate) use crate::base::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("a model run ends at the first panic")
    }
    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock().ok()
    }
    pub(crate) fn wait<T>(condition: &Condvar, guard: MutexGuard<'_, T>) {
        drop(condition.wait(guard).expect("a model run ends at the first panic"));
    }
}

/// A mutual exclusion lock without poisoning; one byte in a release build (parking_lot).
pub struct Mutex<T> {
    rank: LockRank,
    inner: imp::Mutex<T>,
}

/// A guard that holds a [`Mutex`] and unlocks it on drop.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    inner: imp::MutexGuard<'a, T>,
    // Dropped after `inner`: counting a released lock a moment longer is harmless.
    _held: HeldRank,
}

impl<T> Mutex<T> {
    /// Creates an unlocked mutex outside the lock order.
    pub fn new(value: T) -> Self {
        Self { rank: LockRank::default(), inner: imp::Mutex::new(value) }
    }

    /// Creates an unlocked mutex of rank `rank`; debug builds check the lock order.
    pub fn ranked(rank: Rank, value: T) -> Self {
        Self { rank: LockRank::new(rank), ..Self::new(value) }
    }

    /// Locks the mutex, waiting until no other thread holds it.
    ///
    /// # Panics
    /// In debug builds, when the calling thread holds a lock of a later rank, or another one of
    /// this rank that does not nest.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.rank.get().into_iter().for_each(assert_may_wait);
        MutexGuard { inner: imp::lock(&self.inner), _held: HeldRank::note(self.rank) }
    }

    /// Locks the mutex, or returns `None` when it is held.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = imp::try_lock(&self.inner)?;
        Some(MutexGuard { inner, _held: HeldRank::note(self.rank) })
    }
}

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mutex(..)")
    }
}
