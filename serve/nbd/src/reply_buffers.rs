//! The buffers, shared by all connections, for simple replies that do not fit a write buffer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wire::reply::SIMPLE_LEN;

/// Size of a buffer: the longest simple reply that it holds. The Linux client asks for at most
/// 1.25 MiB by default. Units: bytes.
pub(crate) const REPLY_BUFFER_LEN: usize = SIMPLE_LEN + (2 << 20);
/// Number of buffers.
const MAX_BUFFERS: usize = 8;

/// A pool of buffers of [`REPLY_BUFFER_LEN`] bytes.
///
/// Taking a buffer never blocks: a connection that gets none reads twice instead of buffering the
/// reply. So clients that do not read their replies cannot block others.
///
/// A buffer is allocated on first use and then kept. If each reply allocated and freed its
/// buffer, the allocator would keep freed memory in the heaps of many threads, without a bound.
#[derive(Debug, Default)]
pub(crate) struct ReplyBufferPool {
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    idle: Vec<Box<[u8]>>,
    allocated: usize,
}

/// A buffer in use by one reply, which returns to the pool on drop.
#[derive(Debug)]
pub(crate) struct ReplyBuffer<'a> {
    pool: &'a ReplyBufferPool,
    /// The data of earlier replies until the caller overwrites them.
    pub bytes: Box<[u8]>,
}

impl ReplyBufferPool {
    /// Takes a buffer. Returns `None` if all buffers are in use.
    pub(crate) fn try_take(&self) -> Option<ReplyBuffer<'_>> {
        let mut state = self.lock();
        if let Some(bytes) = state.idle.pop() {
            return Some(ReplyBuffer { pool: self, bytes });
        }
        if state.allocated == MAX_BUFFERS {
            return None;
        }
        state.allocated += 1;
        drop(state);
        Some(ReplyBuffer { pool: self, bytes: vec![0; REPLY_BUFFER_LEN].into_boxed_slice() })
    }

    /// Returns the size of all allocated buffers, in use or idle. Units: bytes.
    pub(crate) fn allocated(&self) -> u64 {
        (self.lock().allocated * REPLY_BUFFER_LEN) as u64
    }

    /// Locks the pool. No code under this lock panics half-way, so a poisoned lock is valid.
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReplyBuffer<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.lock().idle.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_never_exceed_the_bound() {
        let pool = ReplyBufferPool::default();
        drop(pool.try_take().expect("no buffer is in use"));
        assert_eq!(pool.allocated(), REPLY_BUFFER_LEN as u64);
        let all: Vec<_> =
            (0..MAX_BUFFERS).map(|_| pool.try_take().expect("a buffer is free")).collect();
        assert!(pool.try_take().is_none());
        drop(all);
        assert_eq!(pool.try_take().expect("all buffers are idle").bytes.len(), REPLY_BUFFER_LEN);
        assert_eq!(pool.allocated(), (MAX_BUFFERS * REPLY_BUFFER_LEN) as u64);
    }
}
