//! What the server counts.
//!
//! A connection counts in plain integers of its own and adds them to the shared atomics once a batch, so counting costs no
//! shared cache line per request.

use crate::channel::{READ_BUFFER_LEN, WRITE_BUFFER_LEN};
use crate::reply_buffers::ReplyBufferPool;
use crate::wire::request::cmd;
use crate::wire::request_error::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

/// Known commands, and one place for all others.
const COMMANDS: usize = cmd::BLOCK_STATUS as usize + 2;

/// The buffers of one connection. Units: bytes.
const CONNECTION_BUFFERS: u64 = (READ_BUFFER_LEN + WRITE_BUFFER_LEN) as u64;

/// Requests by command, whether they succeeded or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// `READ`.
    pub read: u64,
    /// `WRITE`.
    pub write: u64,
    /// `FLUSH`.
    pub flush: u64,
    /// `TRIM`.
    pub trim: u64,
    /// `CACHE`.
    pub cache: u64,
    /// `WRITE_ZEROES`.
    pub write_zeroes: u64,
    /// `BLOCK_STATUS`.
    pub block_status: u64,
    /// `DISC`.
    pub disconnect: u64,
    /// Commands nobody defined.
    pub unknown: u64,
}

/// Error replies by number, and connections that ended badly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// `EPERM`: a change to a read-only device.
    pub not_permitted: u64,
    /// `EIO`: a page could not be read back, or the device is out of order.
    pub io: u64,
    /// `EINVAL`: the request made no sense.
    pub invalid: u64,
    /// `ENOSPC`: the memory limit, or a write past the end.
    pub no_space: u64,
    /// `EOVERFLOW`: a read that is too long.
    pub overflow: u64,
    /// `ENOTSUP`: zeros that were wanted fast or not at all.
    pub not_supported: u64,
    /// `ESHUTDOWN`: the request came during a shutdown.
    pub shutting_down: u64,
    /// Conversations that ended in the middle of a message, in garbage, or too slowly.
    pub broken_connections: u64,
}

/// A snapshot of the counters. They are read one by one, so a snapshot taken under load may be torn by a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that are active now.
    pub connections_current: u64,
    /// Connections in the handshake now.
    pub handshakes_current: u64,
    /// Connections that were ever active.
    pub connections_total: u64,
    /// Connections turned away: too many connections, no place in the handshake, or a peer of another user.
    pub connections_refused: u64,
    /// Requests by command.
    pub requests: Requests,
    /// Errors by kind.
    pub errors: Errors,
    /// Content sent to clients, holes included. Units: bytes.
    pub bytes_read: u64,
    /// Content stored for clients. Units: bytes.
    pub bytes_written: u64,
    /// Buffers of the connections there are now, touched or not, and those for long replies, which are
    /// kept once they were needed. Units: bytes.
    pub buffer_bytes: u64,
}

/// One connection's counts since it last added them.
#[derive(Debug, Default)]
pub(crate) struct LocalCounters {
    requests: [u64; COMMANDS],
    errors: [u64; Errno::ALL.len()],
    /// Units: bytes.
    pub bytes_read: u64,
    /// Units: bytes.
    pub bytes_written: u64,
}

impl LocalCounters {
    /// One more request of this command number.
    pub fn request(&mut self, kind: u16) {
        self.requests[usize::from(kind).min(COMMANDS - 1)] += 1;
    }

    /// One more error reply.
    pub fn error(&mut self, errno: Errno) {
        self.errors[errno.index()] += 1;
    }
}

/// The shared counters. All are independent sums, so `Relaxed` is enough everywhere.
#[derive(Debug, Default)]
pub struct Counters {
    connections_total: AtomicU64,
    connections_refused: AtomicU64,
    broken: AtomicU64,
    requests: [AtomicU64; COMMANDS],
    errors: [AtomicU64; Errno::ALL.len()],
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    /// Shared by the connections that are counted here.
    pub(crate) reply_buffers: ReplyBufferPool,
}

impl Counters {
    /// Adds a connection's counts and clears them.
    pub(crate) fn merge(&self, local: &mut LocalCounters) {
        let LocalCounters { requests, errors, bytes_read, bytes_written } = std::mem::take(local);
        for (counter, count) in
            self.requests.iter().zip(requests).chain(self.errors.iter().zip(errors))
        {
            add(counter, count);
        }
        add(&self.bytes_read, bytes_read);
        add(&self.bytes_written, bytes_written);
    }

    /// Counts a connection that became active.
    pub(crate) fn connection_started(&self) {
        add(&self.connections_total, 1);
    }

    /// One more connection was turned away.
    pub(crate) fn connection_refused(&self) {
        add(&self.connections_refused, 1);
    }

    /// One more connection ended badly.
    pub(crate) fn connection_broken(&self) {
        add(&self.broken, 1);
    }

    /// Everything counted so far, without the connections there are now: the connection table knows these.
    #[must_use]
    pub fn snapshot(&self) -> Stats {
        self.snapshot_with(0, 0)
    }

    /// Returns everything counted so far, and what these connections mean for it.
    pub(crate) fn snapshot_with(&self, active: u64, handshakes: u64) -> Stats {
        let request = |kind: u16| load(&self.requests[usize::from(kind)]);
        let error = |errno: Errno| load(&self.errors[errno.index()]);
        Stats {
            connections_current: active,
            handshakes_current: handshakes,
            buffer_bytes: (active + handshakes) * CONNECTION_BUFFERS
                + self.reply_buffers.allocated(),
            connections_total: load(&self.connections_total),
            connections_refused: load(&self.connections_refused),
            requests: Requests {
                read: request(cmd::READ),
                write: request(cmd::WRITE),
                flush: request(cmd::FLUSH),
                trim: request(cmd::TRIM),
                cache: request(cmd::CACHE),
                write_zeroes: request(cmd::WRITE_ZEROES),
                block_status: request(cmd::BLOCK_STATUS),
                disconnect: request(cmd::DISC),
                unknown: load(&self.requests[COMMANDS - 1]),
            },
            errors: Errors {
                not_permitted: error(Errno::Perm),
                io: error(Errno::Io),
                invalid: error(Errno::Inval),
                no_space: error(Errno::NoSpc),
                overflow: error(Errno::Overflow),
                not_supported: error(Errno::NotSup),
                shutting_down: error(Errno::Shutdown),
                broken_connections: load(&self.broken),
            },
            bytes_read: load(&self.bytes_read),
            bytes_written: load(&self.bytes_written),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
