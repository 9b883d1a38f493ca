//! Report of what a pool still held at its end.

use std::fmt;

use crate::fullness::FullnessGroup;

/// Zspages of one class and fullness group that a pool still held at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakedGroup {
    /// Object size of the class. Units: bytes.
    pub size: u16,
    /// Fullness group of the zspages.
    pub group: FullnessGroup,
    /// Number of zspages.
    pub zspages: u32,
}

/// What a pool still held at its end. Its frames are free, and its handles are stale.
///
/// Its [`fmt::Display`] is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaked {
    /// All classes and groups with zspages: smallest class first, emptiest group first.
    pub groups: Vec<LeakedGroup>,
    /// Number of live objects.
    pub objects: u64,
}

impl fmt::Display for Leaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pool ended with {} objects:", self.objects)?;
        for (at, group) in self.groups.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let LeakedGroup { size, group, zspages } = group;
            write!(f, "{comma} class {size} group {}: {zspages} zspages", group.index())?;
        }
        Ok(())
    }
}
