//! Memory that fails while the process runs (KERNEL: `mm/memory-failure.c`).
//!
//! Linux takes a page whose memory has an uncorrectable error away from the process, and tells it by SIGBUS: with `BUS_MCEERR_AR` when a thread
//! touches the page, with `BUS_MCEERR_AO` before that, where early kills are switched on. Without a handler that ends the process.
//!
//! [`catch_memory_failures`] installs one. It notes the page in the [`FailedPages`] of the mapping that the address lies in, and then gives the
//! mapping a fresh page at this place, so that the access which was interrupted ends. The bytes it reads are wrong: whoever reads a watched mapping asks
//! [`FailedPages`] *after* it has copied them. A SIGBUS for any other reason or address goes to the action that was installed before.
//!
//! ```text
//!  access --> SIGBUS --> note the page --> fresh page --> the access ends --> its caller asks, and finds the note
//! ```

#[cfg(feature = "memory-failure-injection")]
mod inject;
mod pages;
mod registry;
mod signal;

#[cfg(feature = "memory-failure-injection")]
pub use inject::Injection;
pub use pages::FailedPages;
pub(crate) use registry::Watch;
pub use signal::catch_memory_failures;

/// How the OS told of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The calling thread touched the page, and waits for it.
    ActionRequired,
    /// Nobody has touched it yet.
    ActionOptional,
}

#[cfg(all(test, not(any(loom, shuttle, miri)), feature = "memory-failure-injection"))]
mod tests;
