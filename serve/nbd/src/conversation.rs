//! One client from greeting to good-bye, over anything that can be read and written.

use crate::channel::{Channel, Inbound};
use crate::export::Export;
use crate::haggle::{Admission, haggle};
use crate::hangup::Hangup;
use crate::stats::Counters;
use crate::transmit::transmit;
use std::io::Write;
use std::time::{Duration, Instant};

/// What a conversation needs besides its two directions.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// What is served.
    pub export: &'a Export,
    /// Where requests are counted.
    pub counters: &'a Counters,
    /// Asked when the client wants to start: whether there is a seat for it.
    pub admission: &'a dyn Fn() -> Admission,
    /// How long the handshake may take.
    pub handshake_timeout: Duration,
    /// How long the client may take to send a request once the handshake is over; `None`: for ever.
    pub idle_timeout: Option<Duration>,
}

/// Speaks with one client until either side ends it. Blocks.
///
/// Memory: two buffers of 256 KiB and a few KiB of stack. Simple replies that are longer share eight buffers
/// of 2 MiB with those of the other conversations that `setting.counters` counts.
///
/// # Errors
/// The [`Hangup`] that ended the conversation, unless the client left in good order.
pub fn converse<R: Inbound, W: Write>(
    reader: R,
    writer: W,
    setting: Setting<'_>,
) -> Result<(), Hangup> {
    let mut channel = Channel::new(reader, writer);
    let result = speak(&mut channel, setting);
    if let Err(Hangup::Garbage { .. } | Hangup::NoExport | Hangup::NoSeat) = result {
        // What was understood before is still answered.
        channel.flush()?;
    }
    result
}

fn speak<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
    setting: Setting<'_>,
) -> Result<(), Hangup> {
    // A limit too far away to be a point in time is none.
    channel.set_deadline(Instant::now().checked_add(setting.handshake_timeout));
    let Some(terms) = haggle(channel, setting.export, setting.admission)? else { return Ok(()) };
    channel.set_deadline(None);
    channel.set_idle_timeout(setting.idle_timeout);
    transmit(channel, setting.export, terms, setting.counters)
}
