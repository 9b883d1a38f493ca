//! Replies without content: success and errors.

use std::io::Write;

use super::Transmission;
use crate::channel::Inbound;
use crate::error::ConnectionError;
use crate::wire::reply::{self, ChunkKind, ChunkPosition, ReplyTo};
use crate::wire::request_error::RequestError;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Answers a successful request without data to return.
    pub(super) fn succeed(&mut self, to: ReplyTo) -> Result<(), ConnectionError> {
        let reply = match to.headers.has_chunks() {
            true => reply::chunk(to, ChunkKind::None, ChunkPosition::Last, 0),
            false => reply::simple(to.cookie, None),
        };
        self.channel.write_buffer.put(&reply);
        self.channel.end_reply()
    }

    /// Answers a failed request. Chunks have the error's text and, if it is known, the offset of
    /// the first unreadable byte.
    pub(super) fn fail(
        &mut self,
        to: ReplyTo,
        error: &RequestError,
        offset: Option<u64>,
    ) -> Result<(), ConnectionError> {
        let errno = error.errno();
        self.local_counters.error(errno);
        let write_buffer = &mut self.channel.write_buffer;
        if !to.headers.has_chunks() {
            write_buffer.put(&reply::simple(to.cookie, Some(errno)));
            return self.channel.end_reply();
        }
        let text = error.to_string();
        let kind = if offset.is_some() { ChunkKind::ErrorOffset } else { ChunkKind::Error };
        let offset = offset.map(u64::to_be_bytes);
        let offset = offset.as_ref().map_or(&[][..], |bytes| bytes);
        // The texts are one line each: far below the protocol's limit of 4096 bytes.
        let len = 6 + text.len() + offset.len();
        write_buffer.put(&reply::chunk(to, kind, ChunkPosition::Last, len as u32));
        write_buffer.put(&errno.number().to_be_bytes());
        write_buffer.put(&(text.len() as u16).to_be_bytes());
        write_buffer.put(text.as_bytes());
        write_buffer.put(offset);
        self.channel.end_reply()
    }
}
