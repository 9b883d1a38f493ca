//! The only system calls of the workspace, behind safe types.
//!
//! - [`Mapping`]: one reserved address range, committed on touch, given back piece by piece. The arena lives in one.
//! - [`Table`]: a reserved, zero-filled array of atomic words. All metadata lives in these.
//! - [`memory_failure`]: memory that fails while the process runs.
//! - [`rss`], [`host`]: what the OS says about this process and this machine.

mod error;
pub mod host;
mod mapping;
pub mod memory_failure;
mod prefetch;
pub mod rss;
mod table;

pub use error::MapError;
pub use mapping::{Backing, Mapping};
pub use prefetch::{prefetch, prefetch_bytes};
pub use table::{Table, Word};

/// The page size of this system: 4, 16 or 64 KiB, a power of two. Units: bytes. The system is asked once.
#[must_use]
pub fn page_size() -> usize {
    // An interpreter has no system to ask.
    if cfg!(miri) { 4096 } else { rustix::param::page_size() }
}

/// The huge page size of the OS. Units: bytes.
pub const OS_HUGE_PAGE: usize = 2 << 20;
