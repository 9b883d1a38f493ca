//! Cold memory kept compressed, in user space: the Linux zsmalloc and zram, as libraries.
//!
//! This crate re-exports the parts; each is a crate of its own and can be used alone. The binary of
//! the same name serves, shows and demonstrates them. A program that only needs the libraries
//! disables the binary's dependencies with `default-features = false`.
//!
//! | if you have | use |
//! |---|---|
//! | many cold objects of 1 to 4096 bytes | [`zsmalloc::Pool`] |
//! | pages to keep compressed, in this process | [`zram::Zram`] |
//! | NBD clients: qemu, nbdcopy, the kernel | [`nbd::Server`], or `memzip serve` |
//! | a store of your own that needs movable memory | [`frames::Zone`] and [`frames::FrameChains`] |
//!
//! # A pool of objects
//!
//! A pool packs objects into 4 KiB frames of a zone. A [`Handle`](zsmalloc::Handle) stays valid
//! while compaction moves its object. Once the object is freed, using the handle returns a typed
//! error.
//!
//! ```
//! use std::sync::Arc;
//! use memzip::frames::{FrameCount, Zone, ZoneConfig};
//! use memzip::zsmalloc::{AccessError, Budget, Pool, PoolConfig};
//!
//! // Address space for 1 GiB: memory is committed on demand and returned in 2 MiB blocks.
//! let config = ZoneConfig { capacity: FrameCount::holding(1 << 30), ..ZoneConfig::default() };
//! let zone = Arc::new(Zone::new(config)?);
//! let pool = Pool::new(Arc::clone(&zone), PoolConfig::default())?;
//!
//! let mut handles = Vec::new();
//! for number in 0..10_000u32 {
//!     handles.push(pool.store(format!("a cold object, number {number}").as_bytes())?);
//! }
//! // Free two of three objects. The others lie scattered and keep their frames in use.
//! let mut kept = Vec::new();
//! for (number, handle) in handles.iter().enumerate() {
//!     if number % 3 == 0 {
//!         kept.push(*handle);
//!     } else {
//!         pool.free(*handle)?;
//!     }
//! }
//! // Compaction moves them together. No handle changes, and readers continue.
//! let before = pool.frames();
//! let compaction = pool.compact(&Budget::unlimited());
//! assert!(compaction.objects_moved > 0 && pool.frames() < before / 2);
//!
//! let object = pool.read(kept[7])?;
//! assert_eq!(object.to_vec(), b"a cold object, number 21");
//! assert_eq!(pool.read(handles[1]).unwrap_err(), AccessError::Stale);
//! # drop(object);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A compressed disk
//!
//! The device is a plain value: it needs no driver, no root and no daemon.
//!
//! ```
//! use memzip::block::{BlockDevice, Bytes, Span};
//! use memzip::zram::{Zram, ZramConfig};
//!
//! let config = ZramConfig { algorithm: "lz4".parse()?, ..ZramConfig::new(Bytes(1 << 30)) };
//! let disk = Zram::new(config)?;
//!
//! // Making the span checks the request against the size; any offset and length will do.
//! let text = "the quick brown fox ".repeat(1000);
//! let span = Span::new(12_345, text.len() as u64, disk.size())?;
//! disk.write(span, text.as_bytes())?;
//!
//! let mut back = vec![0; text.len()];
//! disk.read(span, &mut back)?;
//! assert_eq!(back, text.as_bytes());
//!
//! // Statistics have the kernel's names, and the parts add up to the whole.
//! let stat = disk.stat();
//! assert!(stat.mm.compr_data_size < stat.mm.orig_data_size / 10);
//! let parts = &stat.memory;
//! assert!(parts.live <= stat.mm.mem_used_total && stat.mm.mem_used_total <= parts.mem_total);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Memory that fails
//!
//! An uncorrectable memory error ends the process by SIGBUS. A program can avoid that with one
//! call; a library must not take over SIGBUS by itself. After the call a failure in the arena of a
//! zone loses only what was stored in the failed page. Reading that returns
//! [`BlockError::Damaged`](block::BlockError::Damaged) or
//! [`AccessError::MemoryFailure`](zsmalloc::AccessError::MemoryFailure). Overwriting or freeing it
//! works, and the frame is never used again. A failure anywhere else, in code, stacks, the heap or
//! the tables of a zone, still ends the process when a thread touches that memory.
//!
//! ```
//! memzip::catch_memory_failures()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A caller that copies an object out of a pool by hand calls
//! [`ObjectRef::intact`](zsmalloc::ObjectRef::intact) after the copy.
//!
//! # The same disk for other processes
//!
//! ```no_run
//! use std::sync::Arc;
//! use memzip::block::Bytes;
//! use memzip::nbd::{Listen, Server, ServerConfig};
//! use memzip::zram::{Zram, ZramConfig};
//!
//! let disk = Arc::new(Zram::new(ZramConfig::new(Bytes(1 << 30)))?);
//! let listen = Listen::Unix("/run/user/1000/disk.sock".into());
//! let server = Server::bind(listen, disk, ServerConfig::default())?;
//! println!("{}", server.uri());
//! let handle = server.handle();
//! // Another thread calls handle.shutdown(): run returns when the requests in flight are done.
//! server.run()?;
//! # drop(handle);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

/// A balloon that returns memory of an arena to the OS, by hand or by memory pressure.
pub use balloon;
/// The block device interface between stores and servers: spans, errors, the trait.
pub use block;
/// An arena of 4 KiB frames: buddy allocator, per-CPU lists, frame chains, and access to bytes.
pub use frames;
/// An NBD server for any block device.
pub use nbd;
/// The codecs: lz4, lz4hc, zstd.
pub use zcomp;
/// A compressed block device in memory.
pub use zram;
/// A compacting pool of small objects with stable handles.
pub use zsmalloc;

/// Source of the memory of a zone or a disk.
pub use sys::Backing;
/// Limits the loss from failed memory to what was stored in it, from this call on.
pub use sys::memory_failure::catch_memory_failures;

/// The code blocks of the documents, compiled and run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../ARCHITECTURE.md")]
    struct Architecture;
    #[doc = include_str!("../../CONTRIBUTING.md")]
    struct Contributing;
    #[doc = include_str!("../../docs/follow-a-write.md")]
    struct FollowAWrite;
    #[doc = include_str!("../../docs/layout.md")]
    struct Layout;
    #[doc = include_str!("../../docs/locking.md")]
    struct Locking;
}
