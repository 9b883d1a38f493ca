//! Replies without content: success and errors.

use std::io::Write;

use super::Transmission;
use crate::channel::{Inbound, WriteBuffer};
use crate::connection_error::ConnectionError;
use crate::wire::reply::{self, ChunkKind, ChunkPosition, ReplyTo};
use crate::wire::request_error::RequestError;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Answers a request without data to return.
    pub(super) fn answer(
        &mut self,
        to: ReplyTo,
        done: Result<(), RequestError>,
    ) -> Result<(), ConnectionError> {
        match done {
            Ok(()) => self.succeed(to),
            Err(failure) => self.fail(to, &failure),
        }
    }

    /// Answers a successful request without data to return.
    pub(super) fn succeed(&mut self, to: ReplyTo) -> Result<(), ConnectionError> {
        let write_buffer = self.channel.write_buffer();
        match to.headers.has_chunks() {
            true => write_buffer.put(&reply::chunk(to, ChunkKind::None, ChunkPosition::Last, 0)),
            false => write_buffer.put(&reply::simple(to.cookie, None)),
        }
        self.channel.end_reply()
    }

    /// Answers a failed request, with the error's text if replies are structured.
    pub(super) fn fail(
        &mut self,
        to: ReplyTo,
        failure: &RequestError,
    ) -> Result<(), ConnectionError> {
        let errno = failure.errno();
        self.local_counters.error(errno);
        match to.headers.has_chunks() {
            true => put_error(self.channel.write_buffer(), to, failure, None),
            false => self.channel.write_buffer().put(&reply::simple(to.cookie, Some(errno))),
        }
        self.channel.end_reply()
    }

    /// Ends a structured read with an error chunk; `offset` is the first unreadable byte.
    pub(super) fn fail_at(
        &mut self,
        to: ReplyTo,
        failure: &RequestError,
        offset: u64,
    ) -> Result<(), ConnectionError> {
        self.local_counters.error(failure.errno());
        put_error(self.channel.write_buffer(), to, failure, Some(offset));
        self.channel.end_reply()
    }
}

fn put_error(
    write_buffer: &mut WriteBuffer,
    to: ReplyTo,
    failure: &RequestError,
    offset: Option<u64>,
) {
    let text = failure.to_string();
    let kind = if offset.is_some() { ChunkKind::ErrorOffset } else { ChunkKind::Error };
    let tail = offset.map(u64::to_be_bytes);
    let tail = tail.as_ref().map_or(&[][..], |bytes| bytes);
    // The texts are one line each: far below the protocol's limit of 4096 bytes.
    let len = 6 + text.len() + tail.len();
    write_buffer.put(&reply::chunk(to, kind, ChunkPosition::Last, len as u32));
    write_buffer.put(&failure.errno().number().to_be_bytes());
    write_buffer.put(&(text.len() as u16).to_be_bytes());
    write_buffer.put(text.as_bytes());
    write_buffer.put(tail);
}
