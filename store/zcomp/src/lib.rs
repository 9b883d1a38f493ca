//! Codecs for 4 KiB pages: lz4, lz4hc and zstd behind one [`Stream`].
//!
//! A *stream* is what one thread at a time compresses with: the codec's contexts and an output buffer, allocated once and used again for
//! every page, because setting a context up costs as much as compressing a page. Blobs carry no length, checksum or magic number: whoever
//! stores them knows the length, and a page is always [`PAGE_SIZE`] bytes.
//!
//! The codecs are the C libraries: liblz4 is about 15 % faster than the best Rust one on 4 KiB pages, and there is no other zstd encoder.
//! They stand behind the trait [`Codec`], so that a store can be run with one that fails; the dynamic call costs a nanosecond or two of
//! the microseconds a page takes.
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
//! A page must not change while it is compressed; `&Page` says so to everybody in this process. Memory that a guest or another process can
//! write is copied to a private page first.

#![forbid(unsafe_code)]

mod algorithm;
mod codec;
mod error;
mod lz4;
mod stream;
mod zstd;

pub use algorithm::{Algorithm, LevelError, ParseAlgorithmError};
pub use codec::Codec;
pub use error::{CodecError, StreamError};
pub use stream::Stream;

/// Units: bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// The content of one page.
pub type Page = [u8; PAGE_SIZE];

/// Units: bytes an output buffer must hold so that no codec can run out of it.
pub const COMPRESS_BOUND: usize = 4352;
