//! The only system calls of the house, behind safe types.
//!
//! - [`Mapping`]: one reserved address range, committed on touch, given back piece by piece. The arena lives in one.
//! - [`Table`]: a reserved, zero-filled array of atomic words. All metadata lives in these.
//! - [`rss`], [`host`]: what the OS says about this process and this machine.

mod error;
pub mod host;
mod mapping;
mod prefetch;
pub mod rss;
mod table;

pub use error::MapError;
pub use mapping::{Backing, Mapping};
pub use prefetch::{prefetch, prefetch_bytes};
pub use table::{Table, Word};

/// The page size of the OS this code is written for. Units: bytes.
pub const OS_PAGE: usize = 4096;

/// The huge page size of the OS. Units: bytes.
pub const OS_HUGE_PAGE: usize = 2 << 20;
