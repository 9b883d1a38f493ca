//! The buffers for simple replies that do not fit a write buffer. All connections share them.

use crate::wire::reply::SIMPLE_LEN;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Longest simple reply that a buffer holds. Units: bytes. The kernel's client asks for at most 1.25 MiB by default.
pub const REPLY_BUFFER_LEN: usize = SIMPLE_LEN + (2 << 20);
/// How many buffers there are.
const MAX_BUFFERS: usize = 8;

/// A pool of buffers of [`REPLY_BUFFER_LEN`] bytes.
///
/// Nothing waits for one: a connection that gets none reads twice instead of collecting the reply. So
/// clients that do not take their replies cannot hold up the others.
///
/// A buffer is allocated when it is first needed and then kept. Buffers that came and went with each reply
/// would make the allocator keep freed memory in the heaps of many threads, without a bound of ours.
#[derive(Debug, Default)]
pub struct ReplyBufferPool {
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    idle: Vec<Box<[u8]>>,
    allocated: usize,
}

/// The buffer of one reply; idle again when dropped.
#[derive(Debug)]
pub struct ReplyBuffer<'a> {
    memory: &'a ReplyBufferPool,
    bytes: Box<[u8]>,
}

impl ReplyBufferPool {
    /// Takes a buffer. Returns `None` when all are in use.
    pub fn try_take(&self) -> Option<ReplyBuffer<'_>> {
        let mut pool = self.lock();
        if let Some(bytes) = pool.idle.pop() {
            return Some(ReplyBuffer { memory: self, bytes });
        }
        if pool.allocated == MAX_BUFFERS {
            return None;
        }
        pool.allocated += 1;
        drop(pool);
        Some(ReplyBuffer { memory: self, bytes: vec![0; REPLY_BUFFER_LEN].into_boxed_slice() })
    }

    /// Returns how much all buffers take, in use or idle. Units: bytes.
    pub fn allocated(&self) -> u64 {
        (self.lock().allocated * REPLY_BUFFER_LEN) as u64
    }

    /// Nothing under this lock can panic half-way, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplyBuffer<'_> {
    /// Returns the first `len` bytes. What an earlier reply left there has to be overwritten.
    pub fn first(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[..len]
    }
}

impl Drop for ReplyBuffer<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.memory.lock().idle.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_buffers_than_the_bound() {
        let memory = ReplyBufferPool::default();
        drop(memory.try_take().expect("none is in use"));
        assert_eq!(memory.allocated(), REPLY_BUFFER_LEN as u64);
        let all: Vec<_> =
            (0..MAX_BUFFERS).map(|_| memory.try_take().expect("not all are in use")).collect();
        assert!(memory.try_take().is_none());
        drop(all);
        assert_eq!(memory.try_take().expect("all are idle").first(5).len(), 5);
        assert_eq!(memory.allocated(), (MAX_BUFFERS * REPLY_BUFFER_LEN) as u64);
    }
}
