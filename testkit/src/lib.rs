//! What tests and benchmarks share: real pages, deterministic randomness, and a client that loads an NBD server.
//!
//! - [`corpus`]: real 4 KiB pages of this machine (text, binaries, process memory), kept in a file for the next run.
//! - [`sample()`]: a handful of real pages for unit tests, from files every machine with Rust has.
//! - [`Rng`]: small, seeded, the same everywhere.
//! - [`nbd`]: connections times depth requests in flight, real pages as content, every byte accounted for.
//!
//! The benchmark (`bench`) and its malloc peers need the feature of that name; the library alone stays light, so that any crate
//! can have it as a development dependency.

#![forbid(unsafe_code)]

pub mod corpus;
pub mod nbd;
mod page;
#[cfg(feature = "bench")]
pub mod peer;
mod rng;
mod sample;

pub use page::{PAGE_SIZE, Page};
pub use rng::Rng;
pub use sample::sample;
