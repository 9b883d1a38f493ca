//! What the tests share: a device in plain memory, a server in this process, a client that speaks bytes, and real clients.
#![forbid(unsafe_code)]

pub mod client;
pub mod disk;
pub mod program;
pub mod served;
