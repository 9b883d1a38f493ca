//! The handshake: greeting, then options until the client starts or leaves.
//!
//! Every option is answered, also one nobody knows and one whose data are absurdly long, and the parser goes on exactly behind its data.
//! All of it must be over by the deadline the channel carries.

mod answer;

use crate::channel::{Channel, Inbound};
use crate::export::{Export, Terms};
use crate::hangup::Hangup;
use crate::wire::option::{OPTION_LEN, OptionRequest, opt};
use crate::wire::{FIXED_NEWSTYLE, INIT_MAGIC, NO_ZEROES, OPTION_MAGIC, rep};
use answer::Answer;
use std::io::Write;

/// Longest option data that are looked at; longer ones are skipped and answered with an error. Units: bytes.
const MAX_OPTION: u32 = 64 << 10;

/// Whether there is a seat for a client that wants to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There is, and the client has it.
    Welcome,
    /// There is none: the client is told so, and may ask again.
    Full,
}

/// How an option leaves the handshake.
enum Next {
    /// Another option may follow.
    Option,
    /// The client starts under the terms.
    Start,
    /// The client leaves.
    Leave,
}

/// Speaks the handshake. Returns what was agreed on, or `None` when the client left in good order.
///
/// # Errors
/// [`Hangup`].
pub(crate) fn haggle<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
    export: &Export,
    admission: &dyn Fn() -> Admission,
) -> Result<Option<Terms>, Hangup> {
    greet(channel)?;
    let mut haggler =
        Haggler { export, admission, terms: Terms::default(), zeroes: client_flags(channel)? };
    loop {
        match channel.await_message(OPTION_LEN) {
            Err(Hangup::Closed) => return Ok(None),
            result => result?,
        }
        let next = haggler.option(channel)?;
        // Answers never collect: a client that does not take them stops here, until the deadline.
        channel.flush()?;
        match next {
            Next::Option => {}
            Next::Start => return Ok(Some(haggler.terms)),
            Next::Leave => return Ok(None),
        }
    }
}

fn greet<R: Inbound, W: Write>(channel: &mut Channel<R, W>) -> Result<(), Hangup> {
    let outbox = channel.outbox();
    outbox.put(&INIT_MAGIC.to_be_bytes());
    outbox.put(&OPTION_MAGIC.to_be_bytes());
    outbox.put(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    channel.flush()
}

/// Whether the client sends `OPT_EXPORT_NAME` the old way, padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zeroes {
    Padded,
    Left,
}

fn client_flags<R: Inbound, W: Write>(channel: &mut Channel<R, W>) -> Result<Zeroes, Hangup> {
    channel.await_message(4)?;
    let flags = channel.received().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    channel.consume(4);
    match flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) {
        0 if flags & u32::from(NO_ZEROES) != 0 => Ok(Zeroes::Left),
        0 => Ok(Zeroes::Padded),
        _ => Err(Hangup::Garbage { what: "unknown client flags" }),
    }
}

struct Haggler<'a> {
    export: &'a Export,
    admission: &'a dyn Fn() -> Admission,
    terms: Terms,
    zeroes: Zeroes,
}

impl Haggler<'_> {
    /// Takes one option, whose fixed part is there, off the channel and answers it.
    fn option<R: Inbound, W: Write>(
        &mut self,
        channel: &mut Channel<R, W>,
    ) -> Result<Next, Hangup> {
        let (number, len) = fixed_part(channel.received())?;
        if len > MAX_OPTION {
            channel.consume(OPTION_LEN);
            channel.skip(u64::from(len))?;
            return self.refuse_long(channel, number);
        }
        let whole = OPTION_LEN + len as usize;
        channel.fill(whole)?;
        let is_shutting_down = channel.notice_shutdown()?;
        let (message, outbox) = channel.message(whole);
        if is_shutting_down && number != opt::ABORT {
            let next = shutting_down(&mut Answer::new(outbox, number));
            channel.consume(whole);
            return next;
        }
        let next = self.answer(number, &message[OPTION_LEN..], &mut Answer::new(outbox, number))?;
        channel.consume(whole);
        Ok(next)
    }

    fn refuse_long<R: Inbound, W: Write>(
        &self,
        channel: &mut Channel<R, W>,
        number: u32,
    ) -> Result<Next, Hangup> {
        let mut answer = Answer::new(channel.outbox(), number);
        match number {
            opt::EXPORT_NAME => return Err(Hangup::NoExport),
            opt::ABORT => {
                answer.ack();
                return Ok(Next::Leave);
            }
            _ if OptionRequest::is_known(number) => {
                answer.refuse(rep::ERR_TOO_BIG, "option data are too long")
            }
            _ => answer.refuse(rep::ERR_UNSUP, "option is not supported"),
        }
        Ok(Next::Option)
    }
}

/// The server starts nothing new. The one option that cannot be answered with an error ends the connection.
fn shutting_down(answer: &mut Answer<'_>) -> Result<Next, Hangup> {
    if answer.number() == opt::EXPORT_NAME {
        return Err(Hangup::NoSeat);
    }
    answer.refuse(rep::ERR_SHUTDOWN, "the server is shutting down");
    Ok(Next::Option)
}

fn fixed_part(bytes: &[u8]) -> Result<(u32, u32), Hangup> {
    let garbage = Hangup::Garbage { what: "option magic" };
    let mut fields = crate::wire::fields::Fields::new(bytes);
    match (fields.u64(), fields.u32(), fields.u32()) {
        (Some(OPTION_MAGIC), Some(number), Some(len)) => Ok((number, len)),
        _ => Err(garbage),
    }
}
