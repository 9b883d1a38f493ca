//! A small NBD client that exists to load a server, with real pages as content.
//!
//! fio cannot write pages out of a file, and a general client does more than a measurement wants. This one keeps `depth`
//! requests in flight on each of its connections, writes all new requests of a turn with one vectored call and reads as many
//! replies as the socket holds with one call, so that it costs well under a microsecond a request. It knows what every page of
//! the disk must hold ([`DiskModel`]), and can therefore check every byte it reads.
//!
//! Fixed newstyle handshake, `NBD_OPT_GO`, simple replies; one thread a connection.

mod client;
mod connection;
mod disk_model;
mod error;
mod latency;
mod load;
mod plan;
mod wire;

pub use client::{Connection, Target};
pub use disk_model::DiskModel;
pub use error::NbdError;
pub use latency::Latency;
pub use load::{Check, Load, Report};
pub use plan::Workload;
