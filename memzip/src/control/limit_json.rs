//! Requests and answer of `POST /v1/mem_limit` and `POST /v1/mem_used_max`, with the names and the
//! meaning of the files of `/sys/block/zram0`.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zram::Stat;

/// Body of `POST /v1/mem_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitRequest {
    /// The new limit, rounded up to a frame; 0 for none. Units: bytes.
    pub(super) mem_limit: u64,
}

/// Body of `POST /v1/mem_used_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeakRequest {
    /// 0, as for the kernel's file: the peak starts again from what is used now.
    pub(super) mem_used_max: u64,
}

/// Answer to both: the values of `GET /v1/stat` after the change. Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LimitReport {
    mem_limit: u64,
    mem_total: u64,
    mem_used_total: u64,
    mem_used_max: u64,
}

impl From<Stat> for LimitReport {
    fn from(stat: Stat) -> Self {
        Self {
            mem_limit: stat.mm.mem_limit,
            mem_total: stat.memory.mem_total,
            mem_used_total: stat.mm.mem_used_total,
            mem_used_max: stat.mm.mem_used_max,
        }
    }
}

/// Reason why one of the two is refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum LimitRefusal {
    /// The limit is larger than the arena, which has its size from the start.
    #[error(
        "a limit of {asked} bytes is too large: the arena was made for {max} bytes when the server started; use 0 for no limit"
    )]
    ExceedsArena {
        /// Requested limit. Units: bytes.
        asked: u64,
        /// Largest limit that has an effect. Units: bytes.
        max: u64,
    },
    /// The peak is measured and cannot be chosen.
    #[error(
        "mem_used_max is measured: set it to 0 to start again from mem_used_total, not to {asked}"
    )]
    PeakNotZero {
        /// Requested value.
        asked: u64,
    },
}
