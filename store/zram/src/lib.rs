//! A compressed block device in memory, modelled on Linux zram.
//!
//! What has a name of the kernel's zram does what it does there. Beyond it:
//! - requests may have any offset and length; `write_zeroes` is exact (the kernel's ignores partial
//!   pages at its ends);
//! - object compaction is tried before a write is refused at the limit;
//! - the slot table takes memory only where it is used, and returns it;
//! - a page that cannot be read is an error for that page alone.
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
//! # Zeros that stay allocated
//! `write_zeroes` with [`block::ZeroMode::KeepAllocated`] reserves one frame per page below the
//! limit, or is refused. The page's next write can take that frame, whatever it writes, unless the
//! limit was lowered since or is close to what the tables take. A discard releases the reservation.

#![forbid(unsafe_code)]

mod config;
mod error;
mod segments;
mod counters;
mod nearly_full;
mod reclaimer;
mod slots;
mod hot;
mod inner;
mod evict;
mod read;
mod write;
mod reserve;
mod zram;
mod device;
mod stat;
mod check;

pub use check::CheckError;
pub use config::{Access, MAX_SIZE, ZramConfig};
pub use error::ZramError;
pub use frames::{CmaRegion, FrameCompaction, Movability};
pub use nearly_full::{NEARLY_FULL_CLEAR_PERCENT, NEARLY_FULL_PERCENT, NearlyFull};
pub use stat::{HotStat, IoStat, LimitStat, MemoryBreakdown, MmStat, ParseMmStatError, Stat};
pub use zram::Zram;
pub use zsmalloc::{Budget, ChainRule, ClassStats, Compaction};
