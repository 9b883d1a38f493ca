//! An NBD server for a [`block::BlockDevice`].
#![forbid(unsafe_code)]

mod channel;
mod config;
mod conversation;
mod error;
mod export;
mod haggle;
mod hangup;
mod listener;
mod roster;
mod server;
mod socket;
mod stats;
mod transmit;
mod uri;
pub mod wire;

pub use channel::Inbound;
pub use config::{Listen, ServerConfig};
pub use conversation::{Setting, converse};
pub use error::NbdError;
pub use export::Export;
pub use haggle::Admission;
pub use hangup::Hangup;
pub use server::{Handle, Server};
pub use stats::{Counters, Errors, Requests, Stats};
