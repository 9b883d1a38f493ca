//! The form in which a page is stored.

use zsmalloc::Handle;

/// A stored page: its content or the object that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredPage {
    /// The page repeats this pattern 1024 times.
    Same(u32),
    /// An 8-byte object holds a pattern that the page repeats 512 times.
    Pattern(Handle),
    /// The object holds the codec's blob.
    Compressed(Handle),
    /// The object holds the page.
    Raw(Handle),
}

impl StoredPage {
    /// Returns the handle of the page's object, if it has one.
    #[must_use]
    pub fn handle(self) -> Option<Handle> {
        match self {
            Self::Same(_) => None,
            Self::Pattern(handle) | Self::Compressed(handle) | Self::Raw(handle) => Some(handle),
        }
    }
}
