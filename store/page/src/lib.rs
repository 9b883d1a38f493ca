//! One stored page: what a client's 4 KiB become, in one 8-byte word and at most one object of the pool.
//!
//! A page takes the cheapest form that holds it:
//!
//! | form | when | costs beside its word |
//! |---|---|---|
//! | empty | nothing was written, or it was discarded | nothing |
//! | reserved | zeros that a client wants allocated: its next write must find room | room for a frame below the limit |
//! | same-filled | one 32-bit pattern repeated | nothing |
//! | pattern | one 64-bit pattern repeated | an object of 8 bytes |
//! | compressed | the codec's blob fits a class that is not the huge one | the blob |
//! | raw | all others | one frame |
//!
//! The border between compressed and raw is the pool's own ([`zsmalloc::Pool::largest_with_header`], C-06): a longer blob would take a whole
//! frame anyway, and a raw page reads back without a codec. A fixed three quarters of a page would give away what long zspages win.
//!
//! # One compression, one allocation
//! The object is allocated with the length of the very blob that is copied into it, in one step ([`zsmalloc::Pool::store`]). A page is never
//! compressed again into an object that is already there, so no blob can outgrow its object (R-502, Z7), and no stream is held while anybody
//! waits for memory: when there is none, [`Pages::store`] fails and its caller makes room and calls again.

#![forbid(unsafe_code)]

mod error;
mod fill;
mod pages;
mod slot_entry;
mod streams;

pub use error::{LoadError, StoreError};
pub use pages::Pages;
pub use slot_entry::{EntryKind, SlotEntry};
pub use streams::Streams;
pub use zcomp::{PAGE_SIZE, Page};
