//! A load generator for NBD servers, with real pages as content.
//!
//! fio cannot write pages out of a file, and a general client does more work for each request. This
//! keeps `depth` requests in flight on each connection, over [`nbd_client`], with one thread a
//! connection. A turn sends all new requests with one call and takes all replies of one read, so a
//! request costs well under a microsecond. It knows what every page of the disk must hold
//! ([`DiskModel`]) and can check every byte it reads.

mod error;
mod disk_model;
mod latency;
mod plan;
mod connection;
mod load;

pub use connection::Check;
pub use disk_model::DiskModel;
pub use error::LoadError;
pub use latency::Latency;
pub use load::{Load, Report};
pub use plan::Workload;
