//! Request and answer of `POST /v1/compact`.

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/compact`; each field may be left out, and the body as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CompactRequest {
    /// Whether to compact objects.
    pub(crate) objects: bool,
    /// Whether to compact frames, after the objects.
    pub(crate) frames: bool,
    /// Time limit of both kinds together. Units: milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget_ms: Option<u64>,
}

impl Default for CompactRequest {
    fn default() -> Self {
        Self { objects: true, frames: true, budget_ms: None }
    }
}

impl CompactRequest {
    /// Returns why the request makes no sense, or `None`.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        (!self.objects && !self.frames)
            .then_some("\"objects\" and \"frames\" are both false, so there is nothing to do: set one of them to true")
    }
}

/// Result of a compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompactReport {
    /// Object compaction; null when it was not requested.
    pub(crate) objects: Option<PartReport>,
    /// Frame compaction; null when it was not requested.
    pub(crate) frames: Option<PartReport>,
    /// Objects that moved to another zspage.
    pub(crate) objects_moved: u64,
    /// Their bytes.
    pub(crate) bytes_moved: u64,
    /// Frames that became free.
    pub(crate) frames_freed: u64,
    /// Zspages that became free.
    pub(crate) zspages_freed: u64,
    /// Zspages passed over: in use, damaged, or without a frame for their objects.
    pub(crate) skipped: u64,
    /// Frames that moved down so that whole 2 MiB blocks became free.
    pub(crate) frames_moved: u64,
    /// Frames passed over because their owner was using them.
    pub(crate) frames_busy: u64,
    /// Frames that were scanned.
    pub(crate) frames_scanned: u64,
    /// The worse outcome of both parts: `done`, `out of time` or `already running`.
    pub(crate) outcome: String,
    /// Duration. Units: microseconds.
    pub(crate) duration_us: u64,
    /// `mem_used_total` before. Units: bytes.
    pub(crate) mem_used_before: u64,
    /// `mem_used_total` after. Units: bytes.
    pub(crate) mem_used_after: u64,
    /// `mem_total` before. Units: bytes.
    pub(crate) mem_total_before: u64,
    /// `mem_total` after. Units: bytes.
    pub(crate) mem_total_after: u64,
}

/// One of the two kinds of compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartReport {
    /// `done`, `out of time` or `already running`.
    pub(crate) outcome: String,
    /// Duration. Units: microseconds.
    pub(crate) duration_us: u64,
}
