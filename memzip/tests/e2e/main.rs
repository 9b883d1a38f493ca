//! End to end: real NBD clients against the real binary, over real sockets.
//!
//! Each test starts its own server in its own folder, so that all tests can run in parallel. If a
//! client is not installed, its tests print `SKIPPED:`, which `cargo xtask test` lists. No client
//! is replaced by a stand-in.

mod content;
mod group;
mod server;
mod tool;

mod balloon;
mod comeback;
mod control;
mod copy;
mod crowd;
mod filesystem;
mod fio;
mod lab;
mod limit;
mod pressure;
mod qemu;
mod refuse;
mod rude;
mod session;
mod shutdown;
