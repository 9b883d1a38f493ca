//! The streams of one store, checked out for a page at a time.
//!
//! Not thread-local: one thread may serve several stores with different codecs, and streams end with their store. A thread starts at its own
//! place, so without contention the lock is one atomic exchange on a line nobody else writes.

use sync::{Mutex, MutexGuard, this_shard};
use zcomp::{Algorithm, Stream, StreamError};
use zsmalloc::MAX_OBJECT;

/// A fixed number of streams. Bounded memory: a zstd stream at level 3 is about 190 KiB, one of lz4hc 330 KiB, an lz4 one 8 KiB. However many threads
/// use them, there are no more.
#[derive(Debug)]
pub struct Streams {
    slots: Box<[CachePadded]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct CachePadded(Mutex<StreamSlot>);

/// What a page is worked on with.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    pub(crate) stream: Stream,
    /// Where an object that lies in two pieces is put together.
    pub(crate) bounce: Box<[u8; MAX_OBJECT]>,
}

impl Streams {
    /// `count` streams, at least one.
    ///
    /// # Errors
    /// The first error of `make`.
    pub fn new(
        count: usize,
        mut make: impl FnMut() -> Result<Stream, StreamError>,
    ) -> Result<Self, StreamError> {
        let slot = |_| {
            make().map(|stream| {
                CachePadded(Mutex::ranked(
                    sync::Rank::Stream,
                    StreamSlot { stream, bounce: Box::new([0; MAX_OBJECT]) },
                ))
            })
        };
        Ok(Self { slots: (0..count.max(1)).map(slot).collect::<Result<_, _>>()? })
    }

    /// `count` streams of one algorithm.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn of(algorithm: Algorithm, count: usize) -> Result<Self, StreamError> {
        Self::new(count, || Stream::new(algorithm))
    }

    /// Streams of one algorithm, `count` of them at most and no more than fit `memory` bytes, but at least one.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn with_memory_limit(
        algorithm: Algorithm,
        count: usize,
        memory: u64,
    ) -> Result<Self, StreamError> {
        let one = Self::of(algorithm, 1)?;
        let fit = usize::try_from(memory / one.memory().max(1)).unwrap_or(usize::MAX);
        if fit.min(count) <= 1 { Ok(one) } else { Self::of(algorithm, fit.min(count)) }
    }

    /// Memory of all streams. Units: bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let slot = |slot: &CachePadded| {
            let slot = slot.0.lock();
            (size_of::<CachePadded>() + size_of_val(&*slot.bounce) + slot.stream.memory()) as u64
        };
        self.slots.iter().map(slot).sum()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// A stream that is idle; waits for one only when all are at work.
    pub(crate) fn acquire(&self) -> MutexGuard<'_, StreamSlot> {
        let count = self.slots.len();
        let home = this_shard(count);
        (0..count)
            .find_map(|step| self.slots[(home + step) % count].0.try_lock())
            .unwrap_or_else(|| self.slots[home].0.lock())
    }
}
