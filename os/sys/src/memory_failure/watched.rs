//! A mapping whose memory failures are noted.

use std::ops::Deref;
use std::sync::Arc;

use super::pages::FailedPages;
use super::registry::Watch;
use crate::{Backing, Mapping};

/// A mapping whose failed pages are noted.
///
/// The [module](super) names the handler to install and the check that readers make.
#[derive(Debug)]
pub struct WatchedMapping {
    /// The registration. It is dropped before the mapping, so that a late signal finds no mapping
    /// (INV-WATCH-1).
    _watch: Option<Watch>,
    mapping: Mapping,
}

impl WatchedMapping {
    /// Notes failed pages of `mapping` in `failed` from now on. The page size of `failed` divides
    /// that of the mapping. A heap backing is not watched, since the heap's pages cannot be
    /// replaced.
    #[must_use]
    pub fn new(mapping: Mapping, failed: Arc<FailedPages>) -> Self {
        let start = mapping.base().as_ptr().expose_provenance();
        let range = start..start + mapping.len();
        let is_heap = mapping.backing() == Backing::Heap;
        let watch = (!is_heap).then(|| Watch::new(range, mapping.file(), failed));
        Self { _watch: watch, mapping }
    }
}

impl Deref for WatchedMapping {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.mapping
    }
}
