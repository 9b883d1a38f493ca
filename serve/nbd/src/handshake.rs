//! The handshake: greeting, then options until the client starts or leaves.
//!
//! Every option is answered, also one nobody knows and one whose data are absurdly long, and the parser goes on exactly behind its data.
//! All of it must be over by the deadline the channel carries.

mod reply;

use crate::channel::{Channel, Inbound};
use crate::connection_error::ConnectionError;
use crate::export::{Export, Negotiated};
use crate::wire::option::{OPTION_LEN, OptionRequest, opt};
use crate::wire::{FIXED_NEWSTYLE, INIT_MAGIC, NO_ZEROES, OPTION_MAGIC, rep};
use reply::OptionReplies;
use std::io::Write;

/// Longest option data that are looked at; longer ones are skipped and answered with an error. Units: bytes.
const MAX_OPTION_DATA_LEN: u32 = 64 << 10;

/// Whether a client that wants to start is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartDecision {
    /// It is.
    Accept,
    /// All connections are taken: the client is told so, and may ask again.
    Reject,
}

/// How an option leaves the handshake.
enum HandshakeStep {
    /// Another option may follow.
    Continue,
    /// The client starts the transmission phase.
    Transmit,
    /// The client leaves.
    Abort,
}

/// Speaks the handshake. Returns what was agreed on, or `None` when the client left in good order.
///
/// # Errors
/// [`ConnectionError`].
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
        // Answers never collect: a client that does not take them stops here, until the deadline.
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

/// Whether the client sends `OPT_EXPORT_NAME` the old way, padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    Zeroes,
    Omitted,
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

struct Handshake<'a> {
    export: &'a Export,
    accept_start: &'a dyn Fn() -> StartDecision,
    negotiated: Negotiated,
    padding: Padding,
}

impl Handshake<'_> {
    /// Takes one option, whose fixed part is there, off the channel and answers it.
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

/// The server starts nothing new. The one option that cannot be answered with an error ends the connection.
fn shutting_down(replies: &mut OptionReplies<'_>) -> Result<HandshakeStep, ConnectionError> {
    if replies.number() == opt::EXPORT_NAME {
        return Err(ConnectionError::TooManyConnections);
    }
    replies.refuse(rep::ERR_SHUTDOWN, "the server is shutting down");
    Ok(HandshakeStep::Continue)
}

fn parse_option_header(bytes: &[u8]) -> Result<(u32, u32), ConnectionError> {
    let garbage = ConnectionError::ProtocolViolation { what: "option magic" };
    let mut fields = crate::wire::fields::Fields::new(bytes);
    match (fields.u64(), fields.u32(), fields.u32()) {
        (Some(OPTION_MAGIC), Some(number), Some(len)) => Ok((number, len)),
        _ => Err(garbage),
    }
}
