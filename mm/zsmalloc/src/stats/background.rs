//! Statistics of the background thread.

use std::time::Duration;

use super::compaction::Compaction;

/// State of the background thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackgroundState {
    /// No thread is running.
    #[default]
    Off,
    /// Too few frames are freeable.
    Watching,
    /// It compacts objects, slice by slice.
    Working,
    /// The last slice gained nothing; it waits before it tries again.
    BackingOff,
}

/// Statistics of background compaction. The pool's totals include its objects and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct BackgroundStats {
    /// Current state. Serialized without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub state: BackgroundState,
    /// Number of polls.
    #[cfg_attr(feature = "serde", serde(rename = "looks"))]
    pub polls: u64,
    /// Number of slices.
    pub slices: u64,
    /// Objects moved.
    pub objects_moved: u64,
    /// Frames freed.
    pub frames_freed: u64,
    /// Frames moved by frame compaction.
    pub frames_moved: u64,
    /// Frames returned to the OS, in whole pageblocks.
    pub frames_released: u64,
    /// CPU time of the current thread, or of the last one.
    #[cfg_attr(feature = "serde", serde(rename = "cpu_us", with = "super::compaction::micros"))]
    pub cpu: Duration,
    /// Frames that were freeable at the last poll.
    pub frames_freeable: u64,
    /// Report of the last slice. Serialized without it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub last: Compaction,
}
