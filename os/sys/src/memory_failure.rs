//! Memory that fails while the process runs (KERNEL: `mm/memory-failure.c`).
//!
//! When a page has an uncorrectable memory error, Linux unmaps it and sends the process SIGBUS:
//! with `BUS_MCEERR_AR` when a thread touches the page, with `BUS_MCEERR_AO` before that, where
//! early kills are switched on. Without a handler the signal ends the process.
//!
//! [`catch_memory_failures`] installs a handler. It notes the page in the [`FailedPages`] of the
//! mapping that contains the address. Then it maps a fresh page there, so that the interrupted
//! access completes. That access reads wrong bytes, so a reader of a watched mapping checks
//! [`FailedPages`] *after* it has copied them. A SIGBUS for any other reason or address goes to the
//! action that was installed before.

mod pages;
mod registry;
mod signal;
#[cfg(feature = "memory-failure-injection")]
mod inject;

#[cfg(feature = "memory-failure-injection")]
pub use inject::Injection;
pub use pages::FailedPages;
pub use registry::WatchedMapping;
pub use signal::catch_memory_failures;

/// How the OS reported a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A thread touched the page and waits for it.
    ActionRequired,
    /// No thread has touched the page yet.
    ActionOptional,
}

#[cfg(all(test, not(any(loom, shuttle, miri)), feature = "memory-failure-injection"))]
mod tests;
