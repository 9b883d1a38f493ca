//! Real pages, random orders and an NBD load generator, for tests and benchmarks.
//!
//! - [`corpus`]: real 4 KiB pages of this machine (text, binaries, process memory), cached in
//!   files.
//! - [`sample()`]: a few real pages for unit tests, from files that every machine with Rust has.
//! - [`permutation()`]: numbers in a random order that a seed fixes.
//! - [`nbd`]: connections times depth requests in flight, real pages as content, every byte
//!   checked.
//!
//! The benchmark (`bench`) and its malloc peers need the feature `bench`. Without it the library
//! has few dependencies.

#![forbid(unsafe_code)]

mod page;
mod permutation;
pub mod corpus;
mod sample;
pub mod nbd;
#[cfg(feature = "bench")]
pub mod peer;

pub use page::{PAGE_SIZE, Page};
pub use permutation::permutation;
pub use sample::sample;
