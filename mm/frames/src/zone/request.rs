//! What a request for frames may do when no frame is free.

/// What a request may do when no frame is free.
///
/// It always drains the per-CPU lists: their locks come last in the order, so this is safe
/// wherever frames are allocated. Calling shrinkers of owners is not, and needs the promise of
/// [`NoLocksHeld`].
#[derive(Debug)]
pub enum Reclaim {
    /// The request does only what the zone can do by itself.
    NotAllowed,
    /// The request may call shrinkers.
    Allowed(NoLocksHeld),
}

/// The promise that the calling thread holds no lock of the pool or of a chain.
#[derive(Debug)]
pub struct NoLocksHeld(());

impl NoLocksHeld {
    /// Makes the promise. A thread that breaks it can deadlock.
    #[must_use]
    pub fn promise() -> Self {
        Self(())
    }
}
