//! Bytes that came and are not consumed.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

/// Something requests come from.
pub trait Inbound: Read {
    /// Limits how long a later read, and a write to the same peer, may take; `None`: no limit.
    ///
    /// A source that never waits has nothing to do here.
    ///
    /// # Errors
    /// Those of the socket.
    fn set_patience(&mut self, _limit: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

impl Inbound for &[u8] {}

/// A buffer of constant size; the bytes in it are contiguous.
#[derive(Debug)]
pub struct Inbox {
    room: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// An empty inbox of `room` bytes. The memory comes zeroed from the system, so untouched parts cost nothing.
    pub fn new(room: usize) -> Self {
        Self { room: vec![0; room].into_boxed_slice(), start: 0, end: 0 }
    }

    /// What came, oldest first.
    pub fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    /// Forgets the first `len` bytes.
    pub fn consume(&mut self, len: usize) {
        self.start = self.end.min(self.start + len);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Receives once, as much as fits; `wanted` bytes in all will fit. Returns how much came, 0 at the end.
    pub fn receive(&mut self, reader: &mut impl Read, wanted: usize) -> io::Result<usize> {
        if self.start > 0 && self.start + wanted > self.room.len() {
            self.room.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            match reader.read(&mut self.room[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(came) => {
                    self.end += came;
                    return Ok(came);
                }
            }
        }
    }
}
