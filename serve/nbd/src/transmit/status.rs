//! Block status: the device's extents, without reading data.

use std::io::Write;

use block::{AllocationState, Span};

use super::Transmission;
use crate::channel::Inbound;
use crate::connection_error::ConnectionError;
use crate::wire::reply::{self, ChunkKind, ChunkPosition, ReplyTo};
use crate::wire::request::ExtentLimit;
use crate::wire::{BASE_ALLOCATION_ID, Headers};

/// Most extents in one reply: 64 KiB, or 128 KiB with extended headers. The client continues
/// where the reply ends.
const MAX_EXTENTS: usize = 8192;

/// Status flags of an extent with data.
const DATA: u32 = 0;
/// Status flags of a hole: bit 0 (`STATE_HOLE`) and bit 1 (`STATE_ZERO`).
const HOLE_ZERO: u32 = 0b11;
/// Status flags of an allocated extent of zeros: bit 1 (`STATE_ZERO`).
const ZERO: u32 = 0b10;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Answers a block status request with at least one extent. The span is not empty.
    pub(super) fn block_status(
        &mut self,
        to: ReplyTo,
        span: Span,
        extents: ExtentLimit,
    ) -> Result<(), ConnectionError> {
        let max = match extents {
            ExtentLimit::One => 1,
            ExtentLimit::Many => MAX_EXTENTS,
        };
        self.load_extents(span, max);
        match to.headers {
            Headers::Simple | Headers::Structured => self.put_extents(to)?,
            Headers::Extended => self.put_long_extents(to)?,
        }
        self.extents.shrink_to(super::MAX_READ_EXTENTS);
        self.channel.end_reply()
    }

    fn put_extents(&mut self, to: ReplyTo) -> Result<(), ConnectionError> {
        let len = 4 + 8 * self.extents.len();
        self.channel.reserve(to.headers.chunk_len() + len)?;
        let write_buffer = self.channel.write_buffer();
        write_buffer.put(&reply::chunk(
            to,
            ChunkKind::BlockStatus,
            ChunkPosition::Last,
            len as u32,
        ));
        write_buffer.put(&BASE_ALLOCATION_ID.to_be_bytes());
        for extent in &self.extents {
            // An extent is no longer than the span, whose length fits the 32 bits of a 28-byte
            // request.
            write_buffer.put(&(extent.len as u32).to_be_bytes());
            write_buffer.put(&state(extent.content).to_be_bytes());
        }
        Ok(())
    }

    fn put_long_extents(&mut self, to: ReplyTo) -> Result<(), ConnectionError> {
        let len = 8 + 16 * self.extents.len();
        self.channel.reserve(to.headers.chunk_len() + len)?;
        let write_buffer = self.channel.write_buffer();
        write_buffer.put(&reply::chunk(
            to,
            ChunkKind::BlockStatusExt,
            ChunkPosition::Last,
            len as u32,
        ));
        write_buffer.put(&BASE_ALLOCATION_ID.to_be_bytes());
        write_buffer.put(&(self.extents.len() as u32).to_be_bytes());
        for extent in &self.extents {
            write_buffer.put(&extent.len.to_be_bytes());
            write_buffer.put(&u64::from(state(extent.content)).to_be_bytes());
        }
        Ok(())
    }
}

fn state(content: AllocationState) -> u32 {
    match content {
        AllocationState::Data => DATA,
        AllocationState::Hole => HOLE_ZERO,
        AllocationState::Zero => ZERO,
    }
}
