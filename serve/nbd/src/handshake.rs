//! The handshake: the greeting, then option haggling until the client starts the transmission
//! phase or leaves.
//!
//! Every option gets a reply, also an unknown or an overlong one, and the parser finds the next
//! option after its data. The whole handshake must end before the channel's deadline.

mod reply;
mod options;

use std::io::Write;

use crate::channel::{Channel, Inbound};
use crate::error::ConnectionError;
use crate::export::Export;
use crate::wire::fields::Fields;
use crate::wire::option::{OPTION_LEN, OptionError, OptionRequest, opt};
use crate::wire::request::RequestLimits;
use crate::wire::{FIXED_NEWSTYLE, Headers, INIT_MAGIC, NO_ZEROES, OPTION_MAGIC};
use options::Handshake;
use reply::{HandshakeStep, OptionReplies};

pub use options::StartDecision;

/// Longest option data that are parsed. Longer data are skipped and get an error reply. Units:
/// bytes.
const MAX_OPTION_DATA_LEN: u32 = 64 << 10;

/// Runs the handshake. Returns its result, or `None` if the client left in an orderly way.
///
/// # Errors
/// The [`ConnectionError`] that ends the connection.
pub(crate) fn negotiate<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
    export: &Export,
    accept_start: &dyn Fn() -> StartDecision,
) -> Result<Option<RequestLimits>, ConnectionError> {
    // Greet the client, which answers with its flags. One that has left already is broken.
    channel.write_buffer.put(&INIT_MAGIC.to_be_bytes());
    channel.write_buffer.put(&OPTION_MAGIC.to_be_bytes());
    channel.write_buffer.put(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    channel.flush()?;
    let Some(flags) = channel.await_message(4)? else { return Ok(None) };
    let flags = Fields(flags).u32().unwrap_or_default();
    channel.read_buffer.consume(4);
    if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
        return Err(ConnectionError::ProtocolViolation { what: "unknown client flags" });
    }
    let mut handshake = Handshake {
        export,
        accept_start,
        limits: RequestLimits {
            size: export.device.size(),
            read_only: export.device.is_read_only(),
            headers: Headers::Simple,
            allocation: false,
        },
        no_zeroes: flags & u32::from(NO_ZEROES) != 0,
    };
    loop {
        let Some(header) = channel.await_message(OPTION_LEN)? else { return Ok(None) };
        let (number, len) = parse_option_header(header)?;
        channel.read_buffer.consume(OPTION_LEN);
        let next = handshake.option(channel, number, len)?;
        // Send the reply before reading on, so that replies never accumulate: a client that does
        // not read them blocks here until the deadline.
        channel.flush()?;
        match next {
            HandshakeStep::Continue => {}
            HandshakeStep::Transmit => return Ok(Some(handshake.limits)),
            HandshakeStep::Abort => return Ok(None),
        }
    }
}

fn parse_option_header(bytes: &[u8]) -> Result<(u32, u32), ConnectionError> {
    let mut fields = Fields(bytes);
    match (fields.u64(), fields.u32(), fields.u32()) {
        (Some(OPTION_MAGIC), Some(number), Some(len)) => Ok((number, len)),
        _ => Err(ConnectionError::ProtocolViolation { what: "wrong option magic" }),
    }
}

impl Handshake<'_> {
    /// Receives and answers one option with `len` bytes of data. `OPT_EXPORT_NAME` has no error
    /// reply, so refusing it ends the connection.
    fn option<R: Inbound, W: Write>(
        &mut self,
        channel: &mut Channel<R, W>,
        number: u32,
        len: u32,
    ) -> Result<HandshakeStep, ConnectionError> {
        if len > MAX_OPTION_DATA_LEN {
            channel.skip(len.into())?;
            let mut replies = OptionReplies { write_buffer: &mut channel.write_buffer, number };
            return match OptionRequest::parse(number, &[]) {
                Ok(OptionRequest::ExportName(_)) => Err(ConnectionError::UnknownExport),
                Ok(OptionRequest::Abort) => Ok(replies.end(Ok(HandshakeStep::Abort))),
                Err(error @ OptionError::Unknown { .. }) => Ok(replies.end(Err(error))),
                _ => Ok(replies.end(Err(OptionError::TooLong))),
            };
        }
        channel.fill(len as usize)?;
        let is_shutting_down = channel.notice_shutdown()?;
        let data = &channel.read_buffer.bytes()[..len as usize];
        let mut replies = OptionReplies { write_buffer: &mut channel.write_buffer, number };
        let next = match number {
            opt::EXPORT_NAME if is_shutting_down => Err(ConnectionError::TooManyConnections),
            _ if is_shutting_down && number != opt::ABORT => {
                Ok(replies.end(Err(OptionError::ShuttingDown)))
            }
            _ => self.answer(data, &mut replies),
        };
        channel.read_buffer.consume(len as usize);
        next
    }
}
