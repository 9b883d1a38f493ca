//! The life of one connection: handshake, then transmission, over any reader and writer.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::channel::{Channel, Inbound};
use crate::error::ConnectionError;
use crate::export::Export;
use crate::handshake::{StartDecision, negotiate};
use crate::stats::Counters;
use crate::transmit::transmit;

/// The parameters of a connection other than its reader and its writer.
#[derive(Clone, Copy)]
pub struct ConnectionContext<'a> {
    /// The export.
    pub export: &'a Export,
    /// The counters that the connection adds to.
    pub counters: &'a Counters,
    /// Decides whether a client may start the transmission phase.
    pub accept_start: &'a dyn Fn() -> StartDecision,
    /// Time for the whole handshake.
    pub handshake_timeout: Duration,
    /// Time for the client to send a request after the handshake. `None`: no limit.
    pub idle_timeout: Option<Duration>,
}

/// Serves one client until either side ends the connection. Blocks.
///
/// Memory: two buffers of 256 KiB and a few KiB of stack. All connections of `context.counters`
/// share eight buffers of 2 MiB for longer simple replies.
///
/// # Errors
/// The [`ConnectionError`] that ended the connection, unless the client left in an orderly way.
pub fn serve_connection<R: Inbound, W: Write>(
    reader: R,
    writer: W,
    context: ConnectionContext<'_>,
) -> Result<(), ConnectionError> {
    let mut channel = Channel::new(reader, writer);
    let result = run_phases(&mut channel, context);
    if result.as_ref().is_err_and(ConnectionError::is_by_server) {
        channel.flush()?;
    }
    result
}

fn run_phases<R: Inbound, W: Write>(
    channel: &mut Channel<R, W>,
    context: ConnectionContext<'_>,
) -> Result<(), ConnectionError> {
    // A timeout too long for `Instant` means no deadline.
    channel.set_deadline(Instant::now().checked_add(context.handshake_timeout));
    let Some(limits) = negotiate(channel, context.export, context.accept_start)? else {
        return Ok(());
    };
    channel.set_deadline(None);
    channel.idle_timeout = context.idle_timeout;
    transmit(channel, &*context.export.device, limits, context.counters)
}
