//! The streams of one store; a thread takes one for each page.
//!
//! They are not thread-local: one thread may serve several stores with different codecs, and
//! streams end with their store. Each thread tries its own stream first, so without contention the
//! lock is one atomic exchange on a cache line that no other thread writes.

use sync::{Mutex, MutexGuard, Rank, this_shard};
use zcomp::{Algorithm, Stream, StreamError};
use zsmalloc::MAX_OBJECT;

/// A fixed number of streams, however many threads use them. A zstd stream at level 3 takes about
/// 190 KiB, one of lz4hc 330 KiB, one of lz4 8 KiB.
#[derive(Debug)]
pub struct Streams {
    slots: Box<[CachePadded]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct CachePadded(Mutex<StreamSlot>);

/// A stream and the bounce buffer that goes with it.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    pub(crate) stream: Stream,
    /// The buffer in which an object that spans two frames is joined.
    pub(crate) bounce: Box<[u8; MAX_OBJECT]>,
}

impl Streams {
    /// Creates `count` streams, at least one, with `make`.
    ///
    /// # Errors
    /// The first error of `make`.
    pub fn new(
        count: usize,
        mut make: impl FnMut() -> Result<Stream, StreamError>,
    ) -> Result<Self, StreamError> {
        let slot = |_| {
            let slot = StreamSlot { stream: make()?, bounce: Box::new([0; MAX_OBJECT]) };
            Ok(CachePadded(Mutex::ranked(Rank::Stream, slot)))
        };
        Ok(Self { slots: (0..count.max(1)).map(slot).collect::<Result<_, StreamError>>()? })
    }

    /// Creates `count` streams of one algorithm, at least one.
    ///
    /// # Errors
    /// The errors of [`Stream::new`].
    pub fn of(algorithm: Algorithm, count: usize) -> Result<Self, StreamError> {
        Self::new(count, || Stream::new(algorithm))
    }

    /// Creates at most `count` streams, and no more than fit `memory` bytes, but at least one.
    ///
    /// # Errors
    /// The errors of [`Stream::new`].
    pub fn with_memory_limit(
        algorithm: Algorithm,
        count: usize,
        memory: u64,
    ) -> Result<Self, StreamError> {
        let one = Self::of(algorithm, 1)?;
        let fit = usize::try_from(memory / one.memory().max(1)).unwrap_or(usize::MAX);
        if fit.min(count) <= 1 { Ok(one) } else { Self::of(algorithm, fit.min(count)) }
    }

    /// Returns the memory of all streams. Units: bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let slot = |slot: &CachePadded| {
            let slot = slot.0.lock();
            (size_of::<CachePadded>() + size_of_val(&*slot.bounce) + slot.stream.memory()) as u64
        };
        self.slots.iter().map(slot).sum()
    }

    /// Takes an idle stream; waits for one only when all are in use.
    pub(crate) fn acquire(&self) -> MutexGuard<'_, StreamSlot> {
        let count = self.slots.len();
        let home = this_shard(count);
        (0..count)
            .find_map(|step| self.slots[(home + step) % count].0.try_lock())
            .unwrap_or_else(|| self.slots[home].0.lock())
    }
}
