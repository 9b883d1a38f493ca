//! The modules of a crate and the arrows between its files: which file uses an item of which other
//! file. Modules that exist only in tests do not count.

mod scope;
mod tree;
mod arrows;

pub(crate) use arrows::{Arrow, Arrows, Direction};
pub(crate) use tree::ModuleTree;
