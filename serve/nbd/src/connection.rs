//! One client from greeting to good-bye, over anything that can be read and written.

use crate::channel::{Channel, Inbound};
use crate::connection_error::ConnectionError;
use crate::export::Export;
use crate::handshake::{StartDecision, negotiate};
use crate::stats::Counters;
use crate::transmit::transmit;
use std::io::Write;
use std::time::{Duration, Instant};

/// What a connection needs besides its two directions.
#[derive(Clone, Copy)]
pub struct ConnectionContext<'a> {
    /// What is served.
    pub export: &'a Export,
    /// Where requests are counted.
    pub counters: &'a Counters,
    /// Asked when the client wants to start: whether it is served.
    pub accept_start: &'a dyn Fn() -> StartDecision,
    /// How long the handshake may take.
    pub handshake_timeout: Duration,
    /// How long the client may take to send a request once the handshake is over; `None`: for ever.
    pub idle_timeout: Option<Duration>,
}

/// Speaks with one client until either side ends it. Blocks.
///
/// Memory: two buffers of 256 KiB and a few KiB of stack. Simple replies that are longer share eight buffers
/// of 2 MiB with those of the other connections that `context.counters` counts.
///
/// # Errors
/// The [`ConnectionError`] that ended the connection, unless the client left in good order.
pub fn serve_connection<R: Inbound, W: Write>(
    reader: R,
    writer: W,
    context: ConnectionContext<'_>,
) -> Result<(), ConnectionError> {
    let mut channel = Channel::new(reader, writer);
    let result = run_phases(&mut channel, context);
    if let Err(
        ConnectionError::ProtocolViolation { .. }
        | ConnectionError::UnknownExport
        | ConnectionError::TooManyConnections,
    ) = result
    {
        // What was understood before is still answered.
        channel.flush()?;
    }
    result
}

fn run_phases<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
    context: ConnectionContext<'_>,
) -> Result<(), ConnectionError> {
    // A limit too far away to be a point in time is none.
    channel.set_deadline(Instant::now().checked_add(context.handshake_timeout));
    let Some(negotiated) = negotiate(channel, context.export, context.accept_start)? else {
        return Ok(());
    };
    channel.set_deadline(None);
    channel.set_idle_timeout(context.idle_timeout);
    transmit(channel, context.export, negotiated, context.counters)
}
