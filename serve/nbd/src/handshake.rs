//! The handshake: the greeting, then option haggling until the client starts the transmission
//! phase or leaves.
//!
//! Every option gets a reply, also an unknown or an overlong one, and the parser finds the next
//! option after its data. The whole handshake must end before the channel's deadline.

mod reply;
mod options;

use std::io::Write;

use crate::channel::{Channel, Inbound};
use crate::connection_error::ConnectionError;
use crate::export::{Export, Negotiated};
use crate::wire::option::{OPTION_LEN, OptionRequest, opt};
use crate::wire::{FIXED_NEWSTYLE, INIT_MAGIC, NO_ZEROES, OPTION_MAGIC, rep};
use options::{Handshake, HandshakeStep, Padding};
use reply::OptionReplies;

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
) -> Result<Option<Negotiated>, ConnectionError> {
    send_greeting(channel)?;
    let mut handshake = Handshake {
        export,
        accept_start,
        negotiated: Negotiated::default(),
        padding: client_flags(channel)?,
    };
    loop {
        match channel.await_message(OPTION_LEN) {
            Err(ConnectionError::Closed) => return Ok(None),
            result => result?,
        }
        let next = handshake.option(channel)?;
        // Send the reply before reading on, so that replies never accumulate: a client that does
        // not read them blocks here until the deadline.
        channel.flush()?;
        match next {
            HandshakeStep::Continue => {}
            HandshakeStep::Transmit => return Ok(Some(handshake.negotiated)),
            HandshakeStep::Abort => return Ok(None),
        }
    }
}

fn send_greeting<R: Inbound, W: Write>(channel: &mut Channel<R, W>) -> Result<(), ConnectionError> {
    let write_buffer = channel.write_buffer();
    write_buffer.put(&INIT_MAGIC.to_be_bytes());
    write_buffer.put(&OPTION_MAGIC.to_be_bytes());
    write_buffer.put(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    channel.flush()
}

fn client_flags<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
) -> Result<Padding, ConnectionError> {
    channel.await_message(4)?;
    let flags = channel.received().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    channel.consume(4);
    match flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) {
        0 if flags & u32::from(NO_ZEROES) != 0 => Ok(Padding::Omitted),
        0 => Ok(Padding::Zeroes),
        _ => Err(ConnectionError::ProtocolViolation { what: "unknown client flags" }),
    }
}

impl Handshake<'_> {
    /// Receives and answers one option. Its header must already be in the channel.
    fn option<R: Inbound, W: Write>(
        &mut self,
        channel: &mut Channel<R, W>,
    ) -> Result<HandshakeStep, ConnectionError> {
        let (number, len) = parse_option_header(channel.received())?;
        if len > MAX_OPTION_DATA_LEN {
            channel.consume(OPTION_LEN);
            channel.skip(u64::from(len))?;
            return self.refuse_long(channel, number);
        }
        // Receive the whole option and answer it.
        let whole = OPTION_LEN + len as usize;
        channel.fill(whole)?;
        let is_shutting_down = channel.notice_shutdown()?;
        let (message, write_buffer) = channel.message(whole);
        if is_shutting_down && number != opt::ABORT {
            let next = shutting_down(&mut OptionReplies::new(write_buffer, number));
            channel.consume(whole);
            return next;
        }
        let next = self.answer(
            number,
            &message[OPTION_LEN..],
            &mut OptionReplies::new(write_buffer, number),
        )?;
        channel.consume(whole);
        Ok(next)
    }

    fn refuse_long<R: Inbound, W: Write>(
        &self,
        channel: &mut Channel<R, W>,
        number: u32,
    ) -> Result<HandshakeStep, ConnectionError> {
        let mut replies = OptionReplies::new(channel.write_buffer(), number);
        match number {
            opt::EXPORT_NAME => return Err(ConnectionError::UnknownExport),
            opt::ABORT => {
                replies.ack();
                return Ok(HandshakeStep::Abort);
            }
            _ if OptionRequest::is_known(number) => {
                replies.refuse(rep::ERR_TOO_BIG, "option data are too long")
            }
            _ => replies.refuse(rep::ERR_UNSUP, "option is not supported"),
        }
        Ok(HandshakeStep::Continue)
    }
}

/// Refuses an option during a shutdown. `OPT_EXPORT_NAME` has no error reply and ends the
/// connection.
fn shutting_down(replies: &mut OptionReplies<'_>) -> Result<HandshakeStep, ConnectionError> {
    if replies.number() == opt::EXPORT_NAME {
        return Err(ConnectionError::TooManyConnections);
    }
    replies.refuse(rep::ERR_SHUTDOWN, "the server is shutting down");
    Ok(HandshakeStep::Continue)
}

fn parse_option_header(bytes: &[u8]) -> Result<(u32, u32), ConnectionError> {
    let bad_magic = ConnectionError::ProtocolViolation { what: "wrong option magic" };
    let mut fields = crate::wire::fields::Fields::new(bytes);
    match (fields.u64(), fields.u32(), fields.u32()) {
        (Some(OPTION_MAGIC), Some(number), Some(len)) => Ok((number, len)),
        _ => Err(bad_magic),
    }
}
