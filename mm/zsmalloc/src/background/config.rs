//! Configuration of the background thread, and errors of its start.

use frames::Proactiveness;
use thiserror::Error;

/// CPU quota and thresholds of the background thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundConfig {
    /// CPU quota. Units: percent of one CPU, 1 to 100.
    pub cpu_percent: u8,
    /// Share of the pool's frames that must be freeable to start. The thread stops at a quarter
    /// of it. Units: thousandths, 1 to 1000.
    pub start_permille: u16,
    /// Proactiveness of frame compaction: see [`frames::ProactiveCompactor`].
    pub proactiveness: Proactiveness,
}

/// Default proactiveness of frame compaction. The kernel's default is 20, because scattered free
/// memory still serves most of its requests; here only whole pageblocks return to the OS.
pub const DEFAULT_PROACTIVENESS: Proactiveness = match Proactiveness::new(90) {
    Some(percent) => percent,
    None => Proactiveness::KERNEL,
};

impl Default for BackgroundConfig {
    fn default() -> Self {
        Self { cpu_percent: 10, start_permille: 4, proactiveness: DEFAULT_PROACTIVENESS }
    }
}

/// Error of starting the background thread.
#[derive(Debug, Error)]
pub enum BackgroundError {
    /// The CPU quota is not 1 to 100 percent.
    #[error("invalid CPU quota of {percent} %: allowed are 1 to 100")]
    Cpu {
        /// Requested quota. Units: percent.
        percent: u8,
    },
    /// The start threshold is not 1 to 1000 thousandths.
    #[error("invalid start threshold of {permille} thousandths: allowed are 1 to 1000")]
    Start {
        /// Requested threshold. Units: thousandths.
        permille: u16,
    },
    /// The pool has a background thread already.
    #[error("the pool already has a background thread")]
    AlreadyRunning,
    /// The OS could not start the thread.
    #[error("the background thread could not be started")]
    Thread(#[source] std::io::Error),
}
