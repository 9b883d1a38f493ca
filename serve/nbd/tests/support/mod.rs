//! Support for the tests: devices in memory, a server in this process, a client that sends raw
//! bytes, and real clients.
#![forbid(unsafe_code)]

pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod disk;
pub(crate) mod program;
pub(crate) mod served;
