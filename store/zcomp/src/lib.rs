//! Codecs for 4 KiB pages: lz4, lz4hc and zstd behind one [`Stream`].
//!
//! A stream is allocated once and reused for every page, because setting a context up costs as much
//! as compressing a page. Blobs carry no length, checksum or magic number: the store knows the
//! length of each blob, and a page is always [`PAGE_SIZE`] bytes.
//!
//! The codecs are the C libraries: liblz4 is about 15 % faster than the best Rust one on 4 KiB
//! pages, and there is no other zstd encoder. They implement the trait [`Codec`], so that tests can
//! run a store with a codec that fails. The dynamic call costs 1 to 2 ns, a page microseconds.
//!
//! ```
//! use zcomp::{Algorithm, PAGE_SIZE, Stream};
//! let mut stream = Stream::new("zstd:3".parse::<Algorithm>()?)?;
//! let page = [b'x'; PAGE_SIZE];
//! let blob = stream.compress(&page)?.to_vec();
//! let mut back = [0; PAGE_SIZE];
//! stream.decompress(&blob, &mut back)?;
//! assert!(blob.len() < 100 && back == page);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A page must not change while it is compressed: memory that a guest or another process can write
//! must be copied to a private page first.

#![forbid(unsafe_code)]

mod algorithm;
mod codec;
mod lz4;
mod zstd;
mod stream;

pub use algorithm::{Algorithm, LevelError, ParseAlgorithmError};
pub use codec::{Codec, CodecError, StreamError};
pub use stream::Stream;

/// The size of a page. Units: bytes.
pub const PAGE_SIZE: usize = 4096;
/// The content of one page.
pub type Page = [u8; PAGE_SIZE];
/// The size an output buffer must have so that no codec overruns it. Units: bytes.
pub const COMPRESS_BOUND: usize = 4352;
