//! What E-3 measures, and the size of its data.

use serde::Serialize;
use zram::MmStat;

use crate::figures::FreeBlocks;
use crate::server::{Compaction, Stat};

/// Number of files. The guest's script knows which half is deleted.
pub(crate) const WRITERS: u64 = 8;
/// Length of each file. Units: MiB.
pub(crate) const PART_MIB: u64 = 128;
/// The measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub algorithm: String,
    pub kernel: Kernel,
    pub memzip: Memzip,
}

/// Measurements of the guest kernel's own zram.
#[derive(Debug, Serialize)]
pub(crate) struct Kernel {
    pub release: String,
    pub disksize: u64,
    /// After fstrim and drop_caches.
    pub before: Snapshot,
    /// After zram's own compaction.
    pub objects: Snapshot,
    /// After the compaction of the kernel's memory.
    pub after: Snapshot,
}

/// The kernel's figures at one time.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    /// The largest zone, which the experiment fills.
    pub zone: FreeBlocks,
    pub zones: Vec<FreeBlocks>,
    pub mm_stat: MmStat,
}

/// Measurements of memzip's server.
#[derive(Debug, Serialize)]
pub(crate) struct Memzip {
    /// `mem_total` and `mem_reserved` at the end of the boot that only wrote. Units: bytes.
    pub peak: u64,
    pub before: Stat,
    pub compaction: Compaction,
    pub after: Stat,
}
