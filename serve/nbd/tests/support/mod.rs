//! Support for the tests: devices in memory, a server in this process, a client that sends raw
//! bytes, and real clients.
#![forbid(unsafe_code)]

pub mod client;
pub mod disk;
pub mod program;
pub mod served;
