//! An NBD server: a [`block::BlockDevice`] for nbdcopy, qemu, fio and the kernel, over a unix socket or TCP.
//!
//! ```
//! # use std::sync::Arc;
//! use nbd::{Listen, NbdError, Server, ServerConfig};
//!
//! fn serve(device: Arc<dyn block::BlockDevice>) -> Result<(), NbdError> {
//!     let server = Server::bind(Listen::Unix("/run/user/1000/disk.sock".into()), device, ServerConfig::default())?;
//!     println!("{}", server.uri());
//!     server.run() // until server.handle().shutdown()
//! }
//! ```
//!
//! # Following a request
//!
//! ```text
//!  listener ---> server ---> connection_table   who is connected, which connections are active
//!                  | one thread a connection
//!             connection
//!              |        |
//!         handshake   transmit            handshake; then requests, one after the other
//!              |        |
//!              +-- wire --+               bytes -> Header -> Command (range checked); replies -> bytes
//!              |        |
//!             channel: read_buffer, write_buffer   what came, what waits to be sent
//! ```
//!
//! Parse, execute and answer are apart: [`wire`] holds pure functions, a `Command` carries a checked [`block::Span`], and errors
//! become numbers in one function, [`wire::request_error::RequestError::errno`].
//!
//! # Why threads, and why one does everything
//!
//! Serving a page is decoding it: work for a processor, a few microseconds of it. Handing that to another thread costs more than
//! doing it, and an event loop would only make the other connections wait for it. So a connection's thread takes whatever its socket
//! holds, executes request after request, lets replies collect and sends them together: every few, or when no complete request is
//! left. Several connections run on several processors.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | memory of a connection | two buffers of 256 KiB, 128 KiB during a block status, a 512 KiB stack (reserved); touched parts only: less than 1 MiB. Answers to options never collect |
//! | memory for simple replies of more than 256 KiB | eight buffers of 2 MiB for all connections together, kept once they were needed; a reply that gets none, or is longer, is read twice: to see that all is readable, then to send |
//! | connections | [`ServerConfig::max_connections`]; the next ones are told so when they want to start |
//! | clients in the handshake | [`ServerConfig::max_handshakes`]; each next one waits for a second at most until the oldest has to leave |
//! | a client's handshake | [`ServerConfig::handshake_timeout`] in all, however slowly it sends and reads |
//! | a client that does not take its replies | [`ServerConfig::send_timeout`] for what is sent together |
//! | a client that sends nothing | [`ServerConfig::idle_timeout`], if set; one that vanished is noticed by TCP keepalive after two minutes |
//! | a shutdown | [`ServerConfig::shutdown_grace`] and a second. A device call that takes longer is not waited for |
//! | a trim or zeroing | done 128 MiB at a time; between two such pieces it ends when the grace of a shutdown is over, or the client is known to be gone: at once on a unix socket |
//!
//! Payloads of up to 32 MiB never need a buffer of that size: long writes are stored piece by piece as they come, long reads are sent
//! piece by piece. A client that vanishes in the middle of a long write leaves its first pages written; it was never told that it succeeded.
//!
//! # Where the protocol leaves a choice
//!
//! * Requests of any offset and length are served, also of zero bytes; the preferred size is the device's.
//! * `base:allocation` cannot promise that a written page takes no more memory when it is overwritten: it may compress worse.
//!   `NO_HOLE` is passed to the device, which reserves room or says `ENOSPC`; such zeros are no hole. A range
//!   of more than 128 MiB is reserved piece by piece, so after `ENOSPC` its first pieces may be zeros.
//! * `FAST_ZERO` is passed on, too: the device says `ENOTSUP` unless dropping whole pages is all there is to do.
//! * A read-only device offers no flag of a change (`TRIM`, `WRITE_ZEROES`, `FAST_ZERO`, `FUA`), and changes get `EPERM`.
//! * Every connection sees the same device and a flush covers all of them, so multi-conn is always offered.
//! * Extended headers are spoken where a client asks for them: 64-bit ranges for requests without data, at most 8192 extents in a
//!   status answer. A payload longer than 32 MiB ends the connection; `BLOCK_STATUS` takes no payload, and none is offered.
//! * A client that closes a unix socket while a long trim or zeroing is under way counts as gone, also if it said `DISC` before:
//!   the rest of the range keeps its content. Wait for the reply before `DISC`.
//! * No TLS: use a unix socket, or a tunnel.
#![forbid(unsafe_code)]

mod channel;
mod config;
mod connection;
mod connection_error;
mod connection_table;
mod error;
mod export;
mod handshake;
mod listener;
mod peer;
mod refusal;
mod reply_buffers;
mod server;
mod shutdown;
mod socket;
mod stats;
mod transmit;
mod uri;
pub mod wire;

pub use channel::{Cancellation, Deadlines, Inbound};
pub use config::{Listen, ServerConfig, UnixAccess};
pub use connection::{ConnectionContext, serve_connection};
pub use connection_error::ConnectionError;
pub use error::NbdError;
pub use export::Export;
pub use handshake::StartDecision;
pub use listener::{BoundSocket, SocketFile};
pub use refusal::{Refusal, RefusalLog};
pub use server::{Handle, Server};
pub use stats::{Counters, Errors, Requests, Stats};
