//! The malloc peers: stores of compressed blobs, each in a process of its own, all with one loop.
//!
//! A peer has an index (one slot for each blob) and the blobs. `replace` frees the blob of a
//! random slot and stores a copy of another random blob there; `copy` copies the blob of a random
//! slot out. Each peer is a process because a process has one global allocator. The benchmark
//! starts them all and alternates between them by lines on standard input:
//!
//! ```text
//! > replace 2 1000000        operation, threads, operations in all
//! < 0.713                    seconds
//! ```
//!
//! With several threads each has its own part of the slots, so the index needs no locks in any
//! peer.

use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use frames::{FrameCount, Zone, ZoneConfig};
use zcomp::{Algorithm, Stream};
use zsmalloc::{Handle, Pool, PoolConfig};

use crate::PAGE_SIZE;
use crate::corpus::Corpus;

/// A store of blobs.
trait BlobStore: Sync {
    /// The index entry of a blob.
    type Slot: Send + Sync;

    fn insert(&self, blob: &[u8]) -> Self::Slot;

    /// Frees the old blob, then stores a copy of the new one.
    fn replace(&self, slot: &mut Self::Slot, blob: &[u8]);

    /// Copies the blob to the front of `out` and returns its length.
    fn copy(&self, slot: &Self::Slot, out: &mut [u8; PAGE_SIZE]) -> usize;
}

/// The global allocator of the process.
struct Heap;

impl BlobStore for Heap {
    type Slot = Box<[u8]>;

    fn insert(&self, blob: &[u8]) -> Box<[u8]> {
        blob.into()
    }

    fn replace(&self, slot: &mut Box<[u8]>, blob: &[u8]) {
        // An empty box has no allocation, so this line frees. The next allocation may reuse the
        // memory while it is still in the CPU's caches.
        *slot = Box::default();
        *slot = blob.into();
    }

    fn copy(&self, slot: &Box<[u8]>, out: &mut [u8; PAGE_SIZE]) -> usize {
        out[..slot.len()].copy_from_slice(slot);
        slot.len()
    }
}

/// The panic message of the pool's store. A pool that fails here is a bug, not a result.
const POOL_INVARIANT: &str =
    "the pool has room for every blob, and every handle in the index is live";

impl BlobStore for Pool {
    type Slot = Handle;

    fn insert(&self, blob: &[u8]) -> Handle {
        self.store(blob).expect(POOL_INVARIANT)
    }

    fn replace(&self, slot: &mut Handle, blob: &[u8]) {
        self.free(*slot).expect(POOL_INVARIANT);
        *slot = self.store(blob).expect(POOL_INVARIANT);
    }

    fn copy(&self, slot: &Handle, out: &mut [u8; PAGE_SIZE]) -> usize {
        let object = self.read(*slot).expect(POOL_INVARIANT);
        let (head, tail) = object.pieces();
        out[..head.len()].copy_from_slice(head);
        out[head.len()..head.len() + tail.len()].copy_from_slice(tail);
        object.len()
    }
}

/// Runs a malloc peer. Arguments: the folder of the corpus, and the pages of each kind.
#[must_use]
pub fn main() -> ExitCode {
    run(&Heap)
}

/// Runs the same loops over a zsmalloc pool. The arguments are those of [`main`].
#[must_use]
pub fn pool() -> ExitCode {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(1 << 20), ..ZoneConfig::default() });
    let pool = zone
        .map(Arc::new)
        .map_err(|error| error.to_string())
        .and_then(|zone| Pool::new(zone, PoolConfig::default()).map_err(|error| error.to_string()));
    match pool {
        Ok(pool) => run(&*pool),
        Err(error) => fail(&error),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("peer: {message}");
    ExitCode::FAILURE
}

fn run<K: BlobStore>(store: &K) -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let folder = args.next().map(PathBuf::from);
    let each = args.next().and_then(|text| text.to_str()?.parse().ok());
    let (Some(folder), Some(each)) = (folder, each) else {
        return fail("usage: peer CORPUS-FOLDER PAGES-OF-EACH-KIND");
    };
    let blobs = match Blobs::of_corpus(&folder, each) {
        Ok(blobs) => blobs,
        Err(error) => return fail(&error.to_string()),
    };
    match serve(store, &blobs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// lz4 blobs of a mixed corpus, end to end; a page that does not shrink is stored raw.
struct Blobs {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Blobs {
    fn of_corpus(
        folder: &std::path::Path,
        each: usize,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let corpus = Corpus::load(folder)?
            .ok_or("no corpus in this folder: start the benchmark, not its peers")?;
        let mut stream = Stream::new(Algorithm::Lz4 { acceleration: 1 })?;
        let mut blobs = Self { bytes: Vec::new(), ends: vec![0] };
        for page in corpus.mixed(each) {
            let blob = stream.compress(&page)?;
            let kept = if blob.len() < PAGE_SIZE { blob } else { &page[..] };
            blobs.bytes.extend_from_slice(kept);
            blobs.ends.push(blobs.bytes.len());
        }
        Ok(blobs)
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.ends[index]..self.ends[index + 1]]
    }
}

/// Executes the lines of standard input until it ends, and prints the seconds each took.
fn serve<K: BlobStore>(store: &K, blobs: &Blobs) -> io::Result<()> {
    let mut slots: Vec<K::Slot> =
        (0..blobs.len()).map(|index| store.insert(blobs.get(index))).collect();
    let mut stdout = io::stdout();
    writeln!(stdout, "ready")?;
    // Each operation gets another seed, the same in all peers.
    let mut seed = 0;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let (operation, mut numbers) =
            (words.next(), words.map(|word| word.parse::<usize>().unwrap_or(1)));
        let (threads, count) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
        seed += 1;
        let took = match operation {
            Some("replace") => replace(store, &mut slots, blobs, threads, count, seed),
            Some("copy") => copy(store, &slots, threads, count, seed),
            _ => return Err(io::Error::other("operations are: replace, copy")),
        };
        writeln!(stdout, "{}", took.as_secs_f64())?;
        stdout.flush()?;
    }
    Ok(())
}

fn replace<K: BlobStore>(
    store: &K,
    slots: &mut [K::Slot],
    blobs: &Blobs,
    threads: usize,
    count: usize,
    seed: u64,
) -> Duration {
    let share = slots.len().div_ceil(threads);
    let start = Instant::now();
    thread::scope(|scope| {
        for (number, slots) in slots.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed * 1000 + number as u64);
                for _ in 0..count / threads {
                    let (slot, blob) = (rng.usize(..slots.len()), rng.usize(..blobs.len()));
                    store.replace(&mut slots[slot], blobs.get(blob));
                }
            });
        }
    });
    start.elapsed()
}

fn copy<K: BlobStore>(
    store: &K,
    slots: &[K::Slot],
    threads: usize,
    count: usize,
    seed: u64,
) -> Duration {
    let share = slots.len().div_ceil(threads);
    let start = Instant::now();
    thread::scope(|scope| {
        for (number, slots) in slots.chunks(share).enumerate() {
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed * 1000 + number as u64);
                let mut out = [0; PAGE_SIZE];
                for _ in 0..count / threads {
                    let len = store.copy(&slots[rng.usize(..slots.len())], &mut out);
                    black_box(&out[..len]);
                }
            });
        }
    });
    start.elapsed()
}
