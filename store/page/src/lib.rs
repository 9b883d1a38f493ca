//! Storage of single pages: a client's 4 KiB become a [`StoredPage`] and at most one object of the
//! pool. A page takes the cheapest form that holds it:
//!
//! | form | when | object |
//! |---|---|---|
//! | same-filled | one 32-bit pattern repeated | none |
//! | pattern | one 64-bit pattern repeated | 8 bytes |
//! | compressed | the blob fits a class other than the huge one | the blob |
//! | raw | all others | one frame |
//!
//! The pool sets the border between compressed and raw ([`zsmalloc::Pool::largest_with_header`],
//! C-06). A longer blob would take a whole frame anyway, and a raw page is read without a codec.
//! A fixed border of three quarters of a page would lose what long zspages gain.
//!
//! # One compression, one allocation
//! [`zsmalloc::Pool::store`] allocates the object with the length of the blob and copies the blob
//! into it, in one step. A page is never compressed again into an existing object, so no blob can
//! outgrow its object (R-502, Z7). When there is no memory, [`Pages::store`] fails; its caller
//! reclaims memory, without holding a stream, and calls it again.

#![forbid(unsafe_code)]

mod fill;
mod streams;
mod pages;

pub use pages::{LoadError, Pages, StoreError, StoredPage};
pub use streams::Streams;
pub use zcomp::{PAGE_SIZE, Page};
