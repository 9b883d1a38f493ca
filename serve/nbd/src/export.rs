//! The device as clients see it: a name, a text, a size and what it can do.

use crate::wire::request::RequestLimits;
use crate::wire::{Headers, MAX_PAYLOAD, transmission};
use block::BlockDevice;
use std::sync::Arc;

/// What clients are told at the handshake.
#[derive(Clone)]
pub struct Export {
    /// Name; the empty name means it too.
    pub name: String,
    /// Text for people.
    pub description: String,
    /// What is served.
    pub device: Arc<dyn BlockDevice>,
}

/// What client and server agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The form of requests and replies.
    pub headers: Headers,
    /// Whether `base:allocation` was selected.
    pub allocation: bool,
}

impl Export {
    /// Whether a client that says `name` means this export.
    pub(crate) fn has_name(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }

    /// What the device can do, as `negotiated`.
    ///
    /// Several connections see one device, and a flush on any of them covers all, so multi-conn is always safe.
    pub(crate) fn transmission_flags(&self, negotiated: Negotiated) -> u16 {
        let mut flags = transmission::HAS_FLAGS
            | transmission::SEND_FLUSH
            | transmission::SEND_CACHE
            | transmission::CAN_MULTI_CONN;
        flags |= if self.device.is_read_only() {
            transmission::READ_ONLY
        } else {
            transmission::SEND_FUA
                | transmission::SEND_TRIM
                | transmission::SEND_WRITE_ZEROES
                | transmission::SEND_FAST_ZERO
        };
        if negotiated.headers.has_chunks() {
            flags |= transmission::SEND_DF;
        }
        flags
    }

    /// Minimum, preferred and maximum request sizes. Units: bytes.
    pub(crate) fn block_sizes(&self) -> [u32; 3] {
        let limits = self.device.block_sizes();
        [limits.minimum, limits.preferred, MAX_PAYLOAD]
    }

    /// What decides whether a request is legal.
    pub(crate) fn request_limits(&self, negotiated: Negotiated) -> RequestLimits {
        RequestLimits {
            size: self.device.size(),
            read_only: self.device.is_read_only(),
            headers: negotiated.headers,
            allocation: negotiated.allocation,
        }
    }
}
