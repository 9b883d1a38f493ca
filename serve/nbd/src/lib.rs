//! An NBD server: exports a [`block::BlockDevice`] to nbdcopy, qemu, fio and the Linux client, over
//! a unix socket or TCP.
//!
//! ```
//! # use std::sync::Arc;
//! use nbd::{Listen, NbdError, Server, ServerConfig};
//!
//! fn serve(device: Arc<dyn block::BlockDevice>) -> Result<(), NbdError> {
//!     let listen = Listen::Unix("/run/user/1000/disk.sock".into());
//!     let server = Server::bind(listen, device, ServerConfig::default())?;
//!     println!("{}", server.uri());
//!     server.run() // until server.handle().shutdown()
//! }
//! ```
//!
//! # Following a request
//!
//! ```text
//!  listener ---> server ---> connection_table   all connections, and which are active
//!                  | one thread per connection
//!             connection
//!              |        |
//!         handshake   transmit             option haggling; then requests, in order
//!              |        |
//!              +-- wire --+    bytes -> Header -> Command (range checked); replies -> bytes
//!              |        |
//!             channel: read_buffer, write_buffer   bytes received, bytes not sent yet
//! ```
//!
//! Parsing, execution and replies are separate. `wire` holds pure functions, and a `Command`
//! carries a checked [`block::Span`]. One function maps errors to error numbers:
//! `wire::request_error::RequestError::errno`.
//!
//! # Threads
//!
//! Each connection has one thread, which does all of its work. Serving a page means decoding it: a
//! few microseconds of CPU time. Passing that to another thread costs more than doing it. An event
//! loop would make other connections wait for it.
//!
//! The thread receives all bytes that the socket holds, executes request after request and batches
//! the replies. It sends a batch when the batch is large enough or no complete request is left.
//!
//! # Bounds
//!
//! [`ServerConfig`] bounds the number of clients, in the handshake and after it, and all waits for
//! them. Beside that:
//!
//! * Memory of a connection: two buffers of 256 KiB, 128 KiB during a block status request and a
//!   reserved stack of 512 KiB. Only touched parts take memory: less than 1 MiB. Payloads of up to
//!   32 MiB never need a buffer of that size: long writes are stored and long reads are sent piece
//!   by piece. A client that vanishes in the middle of a long write leaves its first pages stored.
//! * Memory for simple replies of more than 256 KiB: eight buffers of 2 MiB for all connections
//!   together, kept after their first use. A reply that is longer or finds no free buffer is read
//!   twice: once to verify that all pages are readable, and once to send them.
//! * TCP keepalive detects a vanished client after two minutes.
//! * A shutdown takes [`ServerConfig::shutdown_grace`] and a second. It does not wait for a device
//!   call that takes longer.
//! * A trim or zeroing is executed 128 MiB at a time. Between two pieces it ends if the shutdown's
//!   grace is over or the client is known to be gone, which a unix socket reports at once.
//!
//! # Choices where the protocol allows several
//!
//! * Requests of any offset and length are served, including zero bytes. The preferred size is the
//!   device's.
//! * `base:allocation` cannot promise that overwriting a written page takes no more memory, because
//!   the new content may compress worse. `NO_HOLE` is passed to the device, which reserves memory
//!   or returns `ENOSPC`. Such zeros are not reported as a hole. A range of more than 128 MiB is
//!   reserved piece by piece, so its first pieces may be zeros after `ENOSPC`.
//! * `FAST_ZERO` is passed to the device, which returns `ENOTSUP` unless it only has to drop whole
//!   pages.
//! * A read-only device offers no flag for changes (`TRIM`, `WRITE_ZEROES`, `FAST_ZERO`, `FUA`).
//!   Changes get `EPERM`.
//! * All connections share one device and a flush covers all of them, so `CAN_MULTI_CONN` is always
//!   set.
//! * Extended headers are used if the client asks for them: 64-bit ranges for requests without
//!   data, at most 8192 extents in a block status reply. A payload longer than 32 MiB ends the
//!   connection. `BLOCK_STATUS` takes no payload, and no flag offers one.
//! * A client that closes a unix socket during a long trim or zeroing counts as gone, even after
//!   `DISC`: the rest of the range keeps its content. Clients should wait for the reply before they
//!   send `DISC`.
//! * TLS is not supported: use a unix socket or a tunnel.
#![forbid(unsafe_code)]

mod config;
mod error;
mod uri;
mod wire;
mod refusal;
mod shutdown;
mod socket;
mod connection_table;
mod listener;
mod channel;
mod export;
mod reply_buffers;
mod stats;
mod handshake;
mod transmit;
mod connection;
mod peer;
mod server;

pub use channel::{Cancellation, Deadlines, Inbound};
pub use config::{Listen, ServerConfig, UnixAccess};
pub use connection::{ConnectionContext, serve_connection};
pub use error::{ConnectionError, NbdError};
pub use export::Export;
pub use handshake::StartDecision;
pub use listener::{BoundSocket, SocketFile};
pub use refusal::{Refusal, RefusalLog};
pub use server::{Handle, Server};
pub use stats::{Counters, Errors, Requests, Stats};
