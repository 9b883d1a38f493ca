//! Zspage records: the metadata of a zspage, beside its frames.
//!
//! A zspage has the number of its chain. Its record is a few plain words in the chain table's
//! owner words. They are read and written under the lock of the class only:
//!
//! ```text
//!  word 0   63 57 56                25 24      16 15    12 11     4 3  0
//!          +-----+--------------------+----------+--------+--------+----+
//!          | 0   | huge handle (32)   | used (9) | group  | class  | m  |
//!          +-----+--------------------+----------+--------+--------+----+
//!  word 1   previous (32) | next (32) in the list of its group
//!  word 2.. the free map: one bit an object, set = live
//! ```
//! `m` is the magic number of a zspage in use; a record without it is damaged (R-213, C-04).

mod record;
mod list;

pub(crate) use list::ZspageList;
pub(crate) use record::Zspages;

#[cfg(all(test, not(loom)))]
mod tests;
