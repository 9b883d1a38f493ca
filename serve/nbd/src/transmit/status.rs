//! Block status: the device's extents, without reading data.

use std::io::Write;

use block::{AllocationState, Span, StatusExtent};

use super::{MAX_READ_EXTENTS, Transmission};
use crate::channel::Inbound;
use crate::error::ConnectionError;
use crate::wire::reply::{self, ChunkKind, ChunkPosition, ReplyTo};
use crate::wire::request::ExtentLimit;
use crate::wire::{BASE_ALLOCATION_ID, Headers};

/// Most extents in one reply: 64 KiB, or 128 KiB with extended headers. The client continues
/// where the reply ends.
const MAX_EXTENTS: usize = 8192;

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
        let count = self.extents.len();
        let is_long = to.headers == Headers::Extended;
        let (kind, len) = match is_long {
            true => (ChunkKind::BlockStatusExt, 8 + 16 * count),
            false => (ChunkKind::BlockStatus, 4 + 8 * count),
        };
        let head = reply::chunk(to, kind, ChunkPosition::Last, len as u32);
        self.channel.reserve(head.len() + len)?;
        let write_buffer = &mut self.channel.write_buffer;
        write_buffer.put(&head);
        write_buffer.put(&BASE_ALLOCATION_ID.to_be_bytes());
        if is_long {
            write_buffer.put(&(count as u32).to_be_bytes());
        }
        for &StatusExtent { len, content } in &self.extents {
            if is_long {
                write_buffer.put(&len.to_be_bytes());
                write_buffer.put(&u64::from(flags(content)).to_be_bytes());
            } else {
                // An extent is no longer than the span, whose length fits the 32 bits of a
                // compact request.
                write_buffer.put(&(len as u32).to_be_bytes());
                write_buffer.put(&flags(content).to_be_bytes());
            }
        }
        self.extents.shrink_to(MAX_READ_EXTENTS);
        self.channel.end_reply()
    }

    /// Fills `self.extents` with the device's extents of the span: at least one, at most `max`.
    /// The span is not empty.
    ///
    /// The device's answer is not trusted: empty extents are dropped, and none leaves the span.
    pub(super) fn load_extents(&mut self, span: Span, max: usize) {
        self.extents.clear();
        let (extents, mut left) = (&mut self.extents, span.len());
        self.device.status(span, &mut |extent| {
            let len = extent.len.min(left);
            left -= len;
            if len > 0 {
                extents.push(StatusExtent { len, ..extent });
            }
            left > 0 && extents.len() < max
        });
        if extents.is_empty() {
            extents.push(StatusExtent { len: span.len(), content: AllocationState::Data });
        }
    }
}

/// Returns the status flags of an extent: bit 0 is `STATE_HOLE`, bit 1 is `STATE_ZERO`.
fn flags(content: AllocationState) -> u32 {
    match content {
        AllocationState::Data => 0b00,
        AllocationState::Hole => 0b11,
        AllocationState::Zero => 0b10,
    }
}
