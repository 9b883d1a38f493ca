//! The memory for simple replies that do not fit an outbox. All connections share it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Most memory that all connections together hold for long simple replies. Units: bytes.
pub const REPLY_MEMORY: u64 = 16 << 20;

/// How much of [`REPLY_MEMORY`] is in use.
///
/// Nothing waits for it: a connection that gets none reads twice instead of collecting the reply. So
/// clients that do not take their replies cannot hold up the others.
#[derive(Debug, Default)]
pub struct ReplyMemory {
    used: AtomicU64,
}

/// Memory for one reply; free again when dropped.
#[derive(Debug)]
pub struct Share<'a> {
    memory: &'a ReplyMemory,
    bytes: u64,
}

impl ReplyMemory {
    /// Takes memory for a reply of this length. Returns `None` when that much is not left.
    pub fn try_take(&self, bytes: u64) -> Option<Share<'_>> {
        let take = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= REPLY_MEMORY);
        // Relaxed: the sum guards no other memory.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Share { memory: self, bytes })
    }

    /// Returns how much is in use. Units: bytes.
    pub fn used(&self) -> u64 {
        // Relaxed: a statistic.
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        // Relaxed: as in `try_take`.
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_whole() {
        let memory = ReplyMemory::default();
        let all = memory.try_take(REPLY_MEMORY).expect("nothing is in use");
        assert!(memory.try_take(1).is_none());
        drop(all);
        let _half = memory.try_take(REPLY_MEMORY / 2).expect("all is free again");
        assert!(memory.try_take(u64::MAX).is_none());
        assert_eq!(memory.used(), REPLY_MEMORY / 2);
    }
}
