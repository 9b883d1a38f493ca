//! End to end: real NBD clients against the real binary, over real sockets.
//!
//! Each test starts a server of its own in a folder of its own, so that all of them can run at once. A client that is not installed makes
//! its tests say `SKIPPED:`, which `cargo xtask test` lists; nothing is replaced by a stand-in.

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
