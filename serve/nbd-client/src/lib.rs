//! An NBD client: one connection over a unix socket or TCP, with many requests in flight.
//!
//! `memzip demo` moves its files with it, and testkit's load generator measures servers with it,
//! also foreign ones. It is written from the specification (`doc/proto.md` of the NBD project) and
//! shares no code with the server, so that the two check each other.
//!
//! It speaks fixed newstyle with `NBD_OPT_GO` and simple replies, and asks for the default export.
//! It starts no thread: the caller queues requests, sends them together with one vectored call, and
//! takes all replies that the socket holds after one read. No request is allocated or copied.
#![forbid(unsafe_code)]

mod wire;
mod error;
mod stream;
mod handshake;
mod connection;

pub use connection::{Connection, Reply};
pub use error::ClientError;
pub use handshake::Export;
pub use stream::Target;
pub use wire::{Command, Request};
