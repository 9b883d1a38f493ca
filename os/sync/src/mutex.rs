//! A mutex without poisoning.

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
}

/// Mutual exclusion; one byte in a normal build (parking_lot).
pub struct Mutex<T>(imp::Inner<T>);

/// Holds a [`Mutex`]; gives it back on drop.
pub type MutexGuard<'a, T> = imp::Guard<'a, T>;

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub fn new(value: T) -> Self {
        Self(imp::Inner::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        imp::lock(&self.0)
    }

    /// Takes the lock only if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        imp::try_lock(&self.0)
    }
}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mutex(..)")
    }
}
