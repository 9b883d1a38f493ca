//! A small NBD client that loads a server, with real pages as content.
//!
//! fio cannot write pages out of a file, and a general client does more work for each request.
//! This client keeps `depth` requests in flight on each connection. It writes all new requests of a
//! turn with one vectored call and reads as many replies as the socket holds with one call, so a
//! request costs well under a microsecond. It knows what every page of the disk must hold
//! ([`DiskModel`]) and can check every byte it reads.
//!
//! It speaks fixed newstyle with `NBD_OPT_GO` and simple replies, and uses one thread a
//! connection.

mod error;
mod wire;
mod client;
mod disk_model;
mod latency;
mod plan;
mod connection;
mod load;

pub use client::{Connection, Target};
pub use connection::Check;
pub use disk_model::DiskModel;
pub use error::NbdError;
pub use latency::Latency;
pub use load::{Load, Report};
pub use plan::Workload;
