//! The device as clients see it: its name, description and features.

use std::sync::Arc;

use block::BlockDevice;

use crate::wire::{Headers, transmission};

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

impl Export {
    /// Returns whether `name` selects this export: its own name or the empty name.
    pub(crate) fn has_name(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }

    /// Returns the transmission flags: what the device supports and what was negotiated.
    ///
    /// All connections share one device and a flush on any of them covers all, so
    /// `CAN_MULTI_CONN` is always set.
    pub(crate) fn transmission_flags(&self, headers: Headers) -> u16 {
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
        if headers.has_chunks() {
            flags |= transmission::SEND_DF;
        }
        flags
    }
}
