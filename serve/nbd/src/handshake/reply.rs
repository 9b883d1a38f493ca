//! The replies to options.

use crate::channel::WriteBuffer;
use crate::wire::option::{OPTION_REPLY_MAGIC, OptionError, rep};

/// The next step of the handshake after an option.
pub(crate) enum HandshakeStep {
    /// Wait for another option.
    Continue,
    /// Enter the transmission phase.
    Transmit,
    /// End the connection.
    Abort,
}

/// A writer of the replies to one option.
pub(crate) struct OptionReplies<'a> {
    /// The buffer that the replies are written to.
    pub write_buffer: &'a mut WriteBuffer,
    /// The option's number.
    pub number: u32,
}

impl OptionReplies<'_> {
    /// Writes the last reply to the option: `REP_ACK`, or an error reply with a message for
    /// people. Returns the next step.
    pub(crate) fn end(&mut self, done: Result<HandshakeStep, OptionError>) -> HandshakeStep {
        match done {
            Ok(next) => {
                self.put(rep::ACK, &[]);
                next
            }
            Err(error) => {
                self.put(error.reply_kind(), &[error.to_string().as_bytes()]);
                HandshakeStep::Continue
            }
        }
    }

    /// Writes `REP_INFO` of type `kind`.
    pub(crate) fn info(&mut self, kind: u16, parts: [&[u8]; 2]) {
        self.put(rep::INFO, &[&kind.to_be_bytes(), parts[0], parts[1]]);
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
