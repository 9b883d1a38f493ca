//! The device as clients see it: its name, description, size and features.

use std::sync::Arc;

use block::BlockDevice;

use crate::wire::request::RequestLimits;
use crate::wire::{Headers, MAX_PAYLOAD, transmission};

/// A device with the name and the description that clients get during the handshake.
#[derive(Clone)]
pub struct Export {
    /// The export's name. The empty name selects the same export.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// The device.
    pub device: Arc<dyn BlockDevice>,
}

/// The result of a handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The form of requests and replies.
    pub headers: Headers,
    /// Whether `base:allocation` was selected.
    pub allocation: bool,
}

impl Export {
    /// Returns whether `name` selects this export: its own name or the empty name.
    pub(crate) fn has_name(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }

    /// Returns the transmission flags: what the device supports and what was negotiated.
    ///
    /// All connections share one device and a flush on any of them covers all, so
    /// `CAN_MULTI_CONN` is always set.
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

    /// Returns the minimum, preferred and maximum request sizes. Units: bytes.
    pub(crate) fn block_sizes(&self) -> [u32; 3] {
        let limits = self.device.block_sizes();
        [limits.minimum, limits.preferred, MAX_PAYLOAD]
    }

    /// Returns the limits that decide whether a request is valid on this connection.
    pub(crate) fn request_limits(&self, negotiated: Negotiated) -> RequestLimits {
        RequestLimits {
            size: self.device.size(),
            read_only: self.device.is_read_only(),
            headers: negotiated.headers,
            allocation: negotiated.allocation,
        }
    }
}
