//! A mutex without poisoning, optionally with a rank in the lock order.

use crate::order::Rank;
#[cfg(all(debug_assertions, not(any(loom, shuttle))))]
use crate::order::{self, HeldRank};

#[cfg(not(any(loom, shuttle)))]
mod imp {
    pub(super) type Inner<T> = parking_lot::Mutex<T>;
    pub(super) type Guard<'a, T> = parking_lot::MutexGuard<'a, T>;
    pub(super) fn lock<T>(inner: &Inner<T>) -> Guard<'_, T> {
        inner.lock()
    }
    pub(super) fn try_lock<T>(inner: &Inner<T>) -> Option<Guard<'_, T>> {
        inner.try_lock()
    }
    pub(super) type Condition = parking_lot::Condvar;
    pub(super) fn wait<'a, T>(condition: &Condition, mut guard: Guard<'a, T>) -> Guard<'a, T> {
        condition.wait(&mut guard);
        guard
    }
}

#[cfg(any(loom, shuttle))]
mod imp {
    #[cfg(loom)]
    use loom::sync as model;
    #[cfg(shuttle)]
    use shuttle::sync as model;
    pub(super) type Inner<T> = model::Mutex<T>;
    pub(super) type Guard<'a, T> = model::MutexGuard<'a, T>;
    pub(super) fn lock<T>(inner: &Inner<T>) -> Guard<'_, T> {
        inner.lock().expect("a model run ends at the first panic")
    }
    pub(super) fn try_lock<T>(inner: &Inner<T>) -> Option<Guard<'_, T>> {
        inner.try_lock().ok()
    }
    pub(super) type Condition = model::Condvar;
    pub(super) fn wait<'a, T>(condition: &Condition, guard: Guard<'a, T>) -> Guard<'a, T> {
        condition.wait(guard).expect("a model run ends at the first panic")
    }
}

/// A mutual exclusion lock without poisoning; one byte in a release build (parking_lot).
pub struct Mutex<T> {
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    rank: Option<Rank>,
    inner: imp::Inner<T>,
}

/// A guard that holds a [`Mutex`] and unlocks it on drop.
pub struct MutexGuard<'a, T> {
    inner: imp::Guard<'a, T>,
    // Dropped after `inner`: counting a released lock a moment longer is harmless.
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    _held: HeldRank,
}

impl<T> Mutex<T> {
    /// Creates an unlocked mutex outside the lock order.
    pub fn new(value: T) -> Self {
        Self {
            #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
            rank: None,
            inner: imp::Inner::new(value),
        }
    }

    /// Creates an unlocked mutex of rank `rank`; debug builds check the lock order.
    pub fn ranked(rank: Rank, value: T) -> Self {
        let mut lock = Self::new(value);
        lock.set_rank(rank);
        lock
    }

    /// Locks the mutex, waiting until no other thread holds it.
    ///
    /// # Panics
    /// In debug builds, when the calling thread holds a lock of a later rank, or another one of
    /// this rank that does not nest.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
        self.rank.into_iter().for_each(order::assert_may_wait);
        self.guard(imp::lock(&self.inner))
    }

    /// Locks the mutex, or returns `None` when it is held.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        imp::try_lock(&self.inner).map(|inner| self.guard(inner))
    }

    fn guard<'a>(&'a self, inner: imp::Guard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard {
            inner,
            #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
            _held: HeldRank::note(self.rank),
        }
    }

    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    fn set_rank(&mut self, rank: Rank) {
        self.rank = Some(rank);
    }

    #[cfg(not(all(debug_assertions, not(any(loom, shuttle)))))]
    fn set_rank(&mut self, _: Rank) {}
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

impl<T: std::fmt::Debug> std::fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mutex(..)")
    }
}

/// A condition variable for a change of what a [`Mutex`] guards.
pub(crate) struct Condvar(imp::Condition);

impl Condvar {
    /// Creates a condition variable without waiters.
    pub(crate) fn new() -> Self {
        Self(imp::Condition::new())
    }

    /// Unlocks the mutex, sleeps until the next [`Condvar::notify_all`], and locks it again. May
    /// wake up without a notification.
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { inner: imp::wait(&self.0, guard.inner), ..guard }
    }

    /// Wakes all waiters.
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl std::fmt::Debug for Condvar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Condvar(..)")
    }
}
