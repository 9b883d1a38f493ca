//! The replies to options.

use crate::channel::WriteBuffer;
use crate::wire::{OPTION_REPLY_MAGIC, rep};

/// A writer of the replies to one option.
pub(crate) struct OptionReplies<'a> {
    write_buffer: &'a mut WriteBuffer,
    number: u32,
}

impl<'a> OptionReplies<'a> {
    /// Creates a writer of replies to option `number`.
    pub(crate) fn new(write_buffer: &'a mut WriteBuffer, number: u32) -> Self {
        Self { write_buffer, number }
    }

    /// Returns the option's number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Writes `REP_ACK`: the option is done.
    pub(crate) fn ack(&mut self) {
        self.put(rep::ACK, &[]);
    }

    /// Writes an error reply of type `kind`; `why` is a message for people.
    pub(crate) fn refuse(&mut self, kind: u32, why: &str) {
        self.put(kind, &[why.as_bytes()]);
    }

    /// Writes `REP_INFO` of type `kind`.
    pub(crate) fn info(&mut self, kind: u16, parts: [&[u8]; 2]) {
        self.put(rep::INFO, &[&kind.to_be_bytes(), parts[0], parts[1]]);
    }

    /// Writes the reply to `OPT_EXPORT_NAME`, which has no header.
    pub(crate) fn export_name(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.write_buffer.put(part));
    }

    /// Writes a reply of type `kind`: its header and `parts`.
    pub(crate) fn put(&mut self, kind: u32, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.write_buffer.put(&OPTION_REPLY_MAGIC.to_be_bytes());
        self.write_buffer.put(&self.number.to_be_bytes());
        self.write_buffer.put(&kind.to_be_bytes());
        self.write_buffer.put(&(len as u32).to_be_bytes());
        parts.iter().for_each(|part| self.write_buffer.put(part));
    }
}
