//! What `POST /v1/compact` takes and answers.

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/compact`; all of it may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompactRequest {
    /// Objects are moved together.
    #[serde(default = "default_true")]
    pub(crate) objects: bool,
    /// Frames are moved together, after the objects.
    #[serde(default = "default_true")]
    pub(crate) frames: bool,
    /// Stop after this many milliseconds, both kinds together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_ms: Option<u64>,
}

fn default_true() -> bool {
    true
}

impl Default for CompactRequest {
    fn default() -> Self {
        Self { objects: default_true(), frames: default_true(), budget_ms: None }
    }
}

impl CompactRequest {
    /// Why this cannot be done.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        (!self.objects && !self.frames)
            .then_some("\"objects\" and \"frames\" are both false: there is nothing to do, one of them must be true")
    }
}

/// What a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompactReport {
    /// How moving objects went; null when it was not asked for.
    pub(crate) objects: Option<PartReport>,
    /// How moving frames went; null when it was not asked for.
    pub(crate) frames: Option<PartReport>,
    /// Objects that moved to another zspage.
    pub(crate) objects_moved: u64,
    /// Their bytes.
    pub(crate) bytes_moved: u64,
    /// Frames that became free.
    pub(crate) frames_freed: u64,
    /// Zspages that became free.
    pub(crate) zspages_freed: u64,
    /// Times a size class was left since its zspages were in use.
    pub(crate) skipped: u64,
    /// Frames that moved down, so that whole 2 MiB blocks became free.
    pub(crate) frames_moved: u64,
    /// Frames passed over since their owner was using them.
    pub(crate) frames_busy: u64,
    /// Frames that were looked at.
    pub(crate) frames_scanned: u64,
    /// How it ended, the worse of both parts: `done`, `out of time` or `already running`.
    pub(crate) outcome: String,
    /// How long it took.
    pub(crate) duration_us: u64,
    /// `mem_used_total` before.
    pub(crate) mem_used_before: u64,
    /// `mem_used_total` after.
    pub(crate) mem_used_after: u64,
    /// `mem_total` before.
    pub(crate) mem_total_before: u64,
    /// `mem_total` after.
    pub(crate) mem_total_after: u64,
}

/// One of the two compactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartReport {
    /// `done`, `out of time` or `already running`.
    pub(crate) outcome: String,
    /// How long it took.
    pub(crate) duration_us: u64,
}
