//! Whether an allocation may make room at the cost of others.

/// What a request for frames may do when there are none.
///
/// Draining the per-CPU lists is always done: their locks come last in the order, so it is safe wherever frames may be asked for. Calling back
/// into owners to give frames up is not, and needs the promise of [`NoLocksHeld`].
#[derive(Debug)]
pub enum Reclaim {
    /// Only what the zone can do by itself.
    NotAllowed,
    /// Owners may be asked to give frames up.
    Allowed(NoLocksHeld),
}

/// The promise that the calling thread holds no lock of the pool or of an extent.
#[derive(Debug)]
pub struct NoLocksHeld(());

impl NoLocksHeld {
    /// Makes the promise. A thread that breaks it may wait for itself.
    #[must_use]
    pub fn promise() -> Self {
        Self(())
    }
}
