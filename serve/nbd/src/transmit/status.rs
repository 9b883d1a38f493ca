//! Block status: holes and zeros as the device knows them, without reading anything.

use super::Transmission;
use crate::channel::Inbound;
use crate::connection_error::ConnectionError;
use crate::wire::reply::{self, ChunkKind, ChunkPosition, ReplyTo};
use crate::wire::request::ExtentLimit;
use crate::wire::{BASE_ALLOCATION_ID, Headers};
use block::{AllocationState, Span};
use std::io::Write;

/// Most extents in one answer: 64 KiB of them, or 128 KiB with extended headers. The client asks again from where the answer ends.
const MAX_EXTENTS: usize = 8192;

/// The extent holds data.
const DATA: u32 = 0;
/// Bit 0: nothing is allocated. Bit 1: reads as zeros.
const HOLE_ZERO: u32 = 0b11;
/// Reads as zeros.
const ZERO: u32 = 0b10;

impl<R: Inbound, W: Write> Transmission<'_, R, W> {
    /// Answers with at least one extent. The span is not empty.
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
        self.load_runs(span, max);
        match to.headers {
            Headers::Simple | Headers::Structured => self.put_extents(to)?,
            Headers::Extended => self.put_long_extents(to)?,
        }
        self.runs.shrink_to(super::MAX_RUNS);
        self.channel.end_reply()
    }

    fn put_extents(&mut self, to: ReplyTo) -> Result<(), ConnectionError> {
        let len = 4 + 8 * self.runs.len();
        self.channel.reserve(to.headers.chunk_len() + len)?;
        let write_buffer = self.channel.write_buffer();
        write_buffer.put(&reply::chunk(
            to,
            ChunkKind::BlockStatus,
            ChunkPosition::Last,
            len as u32,
        ));
        write_buffer.put(&BASE_ALLOCATION_ID.to_be_bytes());
        for run in &self.runs {
            // No run is longer than the span, which is no longer than a request of 28 bytes can say: 32 bits.
            write_buffer.put(&(run.len as u32).to_be_bytes());
            write_buffer.put(&state(run.content).to_be_bytes());
        }
        Ok(())
    }

    fn put_long_extents(&mut self, to: ReplyTo) -> Result<(), ConnectionError> {
        let len = 8 + 16 * self.runs.len();
        self.channel.reserve(to.headers.chunk_len() + len)?;
        let write_buffer = self.channel.write_buffer();
        write_buffer.put(&reply::chunk(
            to,
            ChunkKind::BlockStatusExt,
            ChunkPosition::Last,
            len as u32,
        ));
        write_buffer.put(&BASE_ALLOCATION_ID.to_be_bytes());
        write_buffer.put(&(self.runs.len() as u32).to_be_bytes());
        for run in &self.runs {
            write_buffer.put(&run.len.to_be_bytes());
            write_buffer.put(&u64::from(state(run.content)).to_be_bytes());
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
