//! System calls about memory, behind safe types.
//!
//! - [`Mapping`]: a reserved address range, committed on touch and decommitted piece by piece.
//! - [`Table`]: a reserved, zero-filled array of atomic words. All metadata is stored in these.
//! - [`memory_failure`]: handling of memory that fails while the process runs.
//! - [`rss`], [`host`]: what the OS reports about this process and this machine.

mod prefetch;
pub mod rss;
mod mapping;
mod table;
pub mod memory_failure;
pub mod host;

pub use mapping::{Backing, MapError, Mapping};
pub use prefetch::{prefetch, prefetch_bytes};
pub use table::{Table, Word};

/// Returns the page size of this system: 4, 16 or 64 KiB, a power of two. Units: bytes.
#[must_use]
pub fn page_size() -> usize {
    // Under Miri there is no system to ask.
    if cfg!(miri) { 4096 } else { rustix::param::page_size() }
}
