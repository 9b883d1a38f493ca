//! What the background thread tells about itself.

use std::time::Duration;

use crate::Compaction;

/// What the background thread is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackgroundState {
    /// There is none.
    #[default]
    Off,
    /// Too little is to be gained.
    Watching,
    /// It moves objects, slice by slice.
    Working,
    /// The last work was in vain; it waits before it tries again.
    BackingOff,
}

/// Compaction in the background so far. Its objects and frames are part of the pool's totals, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackgroundStats {
    /// What it is doing.
    pub state: BackgroundState,
    /// Times it looked how much is to be gained.
    pub polls: u64,
    /// Slices it worked.
    pub slices: u64,
    /// Objects it moved.
    pub objects_moved: u64,
    /// Frames it freed.
    pub frames_freed: u64,
    /// Frames it moved down in the arena.
    pub frames_moved: u64,
    /// Frames it gave back to the OS, in whole pageblocks.
    pub frames_released: u64,
    /// CPU time of the thread that runs now, or ran last.
    pub cpu: Duration,
    /// Frames that could be freed when it last looked.
    pub frames_freeable: u64,
    /// What the last slice did.
    pub last: Compaction,
}
