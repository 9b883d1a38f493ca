//! A mutex without poisoning that may have a place in the order of locks.

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

/// Mutual exclusion; one byte in a release build (parking_lot).
pub struct Mutex<T> {
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    rank: Option<Rank>,
    inner: imp::Inner<T>,
}

/// Holds a [`Mutex`]; gives it back on drop.
pub struct MutexGuard<'a, T> {
    inner: imp::Guard<'a, T>,
    // Dropped after the lock is free: counting it a moment longer is harmless.
    #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
    _held: HeldRank,
}

impl<T> Mutex<T> {
    /// Makes a free lock around `value` that stands outside the order of locks.
    pub fn new(value: T) -> Self {
        Self {
            #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
            rank: None,
            inner: imp::Inner::new(value),
        }
    }

    /// Makes a free lock around `value` with a place in the order of locks, which debug builds check.
    pub fn ranked(rank: Rank, value: T) -> Self {
        let mut lock = Self::new(value);
        lock.set_rank(rank);
        lock
    }

    /// Waits for the lock.
    ///
    /// # Panics
    /// In debug builds, when the calling thread holds a lock that comes later in the order.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(all(debug_assertions, not(any(loom, shuttle))))]
        self.rank.into_iter().for_each(order::assert_may_wait);
        self.guard(imp::lock(&self.inner))
    }

    /// Takes the lock only if no thread holds it.
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

/// Threads that wait for a change of what a [`Mutex`] guards.
pub(crate) struct Condvar(imp::Condition);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(imp::Condition::new())
    }

    /// Gives the lock up, sleeps until the next [`Condvar::notify_all`], at times shorter, and takes the lock again.
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { inner: imp::wait(&self.0, guard.inner), ..guard }
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl std::fmt::Debug for Condvar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Condvar(..)")
    }
}
