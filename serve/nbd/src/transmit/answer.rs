//! Replies that carry no content: success, and errors.

use super::Line;
use crate::channel::{Inbound, Outbox};
use crate::hangup::Hangup;
use crate::wire::failure::Failure;
use crate::wire::reply::{self, ChunkKind, Place, ReplyTo};
use std::io::Write;

impl<R: Inbound, W: Write> Line<'_, R, W> {
    /// Answers a request that has no data to return.
    pub(super) fn answer(&mut self, to: ReplyTo, done: Result<(), Failure>) -> Result<(), Hangup> {
        match done {
            Ok(()) => self.succeed(to),
            Err(failure) => self.fail(to, &failure),
        }
    }

    /// Answers a request that succeeded and has no data to return.
    pub(super) fn succeed(&mut self, to: ReplyTo) -> Result<(), Hangup> {
        let outbox = self.channel.outbox();
        match to.headers.has_chunks() {
            true => outbox.put(&reply::chunk(to, ChunkKind::None, Place::Last, 0)),
            false => outbox.put(&reply::simple(to.cookie, None)),
        }
        self.channel.end_reply()
    }

    /// Answers a request that failed, with text where the client can take it.
    pub(super) fn fail(&mut self, to: ReplyTo, failure: &Failure) -> Result<(), Hangup> {
        let errno = failure.errno();
        self.tally.error(errno);
        match to.headers.has_chunks() {
            true => put_error(self.channel.outbox(), to, failure, None),
            false => self.channel.outbox().put(&reply::simple(to.cookie, Some(errno))),
        }
        self.channel.end_reply()
    }

    /// Ends a structured read that failed, naming the first byte that cannot be had.
    pub(super) fn fail_at(
        &mut self,
        to: ReplyTo,
        failure: &Failure,
        offset: u64,
    ) -> Result<(), Hangup> {
        self.tally.error(failure.errno());
        put_error(self.channel.outbox(), to, failure, Some(offset));
        self.channel.end_reply()
    }
}

fn put_error(outbox: &mut Outbox, to: ReplyTo, failure: &Failure, offset: Option<u64>) {
    let text = failure.to_string();
    let kind = if offset.is_some() { ChunkKind::ErrorOffset } else { ChunkKind::Error };
    let tail = offset.map(u64::to_be_bytes);
    let tail = tail.as_ref().map_or(&[][..], |bytes| bytes);
    // Texts are a line each: far below the protocol's 4096 bytes.
    let len = 6 + text.len() + tail.len();
    outbox.put(&reply::chunk(to, kind, Place::Last, len as u32));
    outbox.put(&failure.errno().number().to_be_bytes());
    outbox.put(&(text.len() as u16).to_be_bytes());
    outbox.put(text.as_bytes());
    outbox.put(tail);
}
