//! A compressed block device in memory, after the Linux zram.
//!
//! ```text
//!  client's bytes --cut into pages--> slot table (one word a page) --> page: same-filled, compressed or raw --> pool
//! ```
//! What the kernel's device does under its names, this one does too; and beyond it:
//! - requests of any offset and length; `write_zeroes` is exact (the kernel's ignores ragged ends);
//! - object compaction is tried before a write is refused at the limit;
//! - the slot table costs memory only where it is used, and gives it back;
//! - a page that cannot be read back is an error for that page alone.
//!
//! ```
//! use block::{BlockDevice, Bytes, Span};
//! use zram::{Zram, ZramConfig};
//!
//! let disk = Zram::new(ZramConfig::new(Bytes(1 << 30)))?;
//! let span = Span::new(4096 * 7 + 100, 11, disk.size())?;
//! disk.write(span, b"hello there")?;
//! let mut back = [0; 11];
//! disk.read(span, &mut back)?;
//! assert_eq!(&back, b"hello there");
//! assert!(disk.stat().mm.compr_data_size < 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An overwrite
//! 1. The new content is stored beside the old. If that fails the old one is untouched (R-506, R-508).
//! 2. The slot's word is swapped for the new one.
//! 3. What the swap displaced is freed, by the one thread whose swap displaced it (Z9).
//!
//! A reader loads the word and follows it. If it is overtaken the object is gone, which a stale handle tells, and it looks again: it sees the old
//! page or the new one, whole.
//!
//! # Zeros that stay allocated
//! `write_zeroes` with [`block::ZeroMode::KeepAllocated`] reserves room for one frame a page below the limit, or is refused. The page's next write
//! finds that room, whatever it writes, unless the limit was lowered since or is close to what the tables take; a discard gives it up.
//!
//! # The limit
//! It bounds all memory of the device: frames in use and free, tables, codec contexts, and what a balloon lent. The zone keeps it: a frame or a table page
//! above it is never handed out, so nothing has to be taken back. Reads, discards and compaction need no memory beyond it.

#![forbid(unsafe_code)]

mod check;
mod config;
mod counters;
mod device;
mod error;
mod hot;
mod inner;
mod nearly_full;
mod reclaimer;
mod reserve;
mod segments;
mod slots;
mod stat;
mod zram;

#[cfg(all(test, not(any(loom, shuttle))))]
mod damage_tests;

#[cfg(all(test, shuttle))]
mod shuttle_tests;

pub use check::CheckError;
pub use config::{Access, ZramConfig};
pub use error::ZramError;
pub use frames::{CmaRegion, FrameCompaction, Movability};
pub use nearly_full::{NEARLY_FULL_CLEAR_PERCENT, NEARLY_FULL_PERCENT, NearlyFull};
pub use stat::{HotStat, IoStat, LimitStat, MemoryBreakdown, MmStat, Stat};
pub use zram::{MAX_SIZE, Zram};
pub use zsmalloc::{Budget, ChainRule, ClassStats, Compaction};
