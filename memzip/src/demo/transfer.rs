//! Transfers over the NBD socket: load, read back, delete, with several connections, a thread each.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use nbd_client::Command;
use parking_lot::Mutex;

use super::client::{Connection, MAX_REQUEST};
use crate::corpus::{PAGE, Reader};

/// Number of connections and threads that share the work.
pub(super) const CONNECTIONS: usize = 2;

/// The disk at the other end of the socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) socket: &'a Path,
    /// Size of the disk. Units: bytes.
    pub(super) bytes: u64,
    pub(super) digests: &'a Digests,
}

/// Expected content of each page: a 128-bit hash taken before the page was sent.
#[derive(Debug)]
pub(super) struct Digests {
    chunks: Vec<OnceLock<Vec<u128>>>,
    zeros: u128,
}

/// Which pages are or were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deleted {
    Nothing,
    /// Every second page, from the second, with one request each.
    EverySecondPage,
    /// All pages, with long requests.
    Everything,
}

impl Digests {
    /// Creates empty digests for a disk of this many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let chunks = usize::try_from(bytes.div_ceil(MAX_REQUEST as u64)).unwrap_or(0);
        Self { chunks: (0..chunks).map(|_| OnceLock::new()).collect(), zeros: hash(&[0; PAGE]) }
    }

    fn put(&self, offset: u64, data: &[u8]) -> Result<()> {
        let chunk = self.chunks.get(chunk_of(offset)).context("more data than was announced")?;
        let fresh = chunk.set(data.chunks(PAGE).map(hash).collect()).is_ok();
        ensure!(fresh, "the bytes at {offset} were sent twice");
        Ok(())
    }

    /// Counts the pages of `data`, read at `offset`, that differ from what is expected.
    fn wrong_pages(&self, offset: u64, data: &[u8], deleted: Deleted) -> u64 {
        let Some(sent) = self.chunks.get(chunk_of(offset)).and_then(OnceLock::get) else {
            return data.chunks(PAGE).count() as u64;
        };
        let missing = sent.len().abs_diff(data.chunks(PAGE).count());
        let wrong = data.chunks(PAGE).zip(sent).enumerate().filter(|(page, (data, sent))| {
            let is_second = deleted == Deleted::EverySecondPage && page % 2 == 1;
            let is_zero = is_second || deleted == Deleted::Everything;
            hash(data) != if is_zero { self.zeros } else { **sent }
        });
        (wrong.count() + missing) as u64
    }
}

fn chunk_of(offset: u64) -> usize {
    usize::try_from(offset / MAX_REQUEST as u64).unwrap_or(usize::MAX)
}

fn hash(page: &[u8]) -> u128 {
    twox_hash::XxHash3_128::oneshot(page)
}

/// Sends everything the reader yields and records its digests. Returns the number of files that
/// could not be read to their end, and the time spent reading files.
///
/// # Errors
/// A connection fails.
pub(super) fn load(
    disk: Target<'_>,
    reader: Reader<'_>,
    bar: &ProgressBar,
) -> Result<(u64, Duration)> {
    // Reading under the lock keeps the pieces in order; hashing and sending run in parallel.
    let source = Mutex::new((reader, Duration::ZERO));
    on_all_connections(disk, |connection| {
        let mut buf = vec![0; MAX_REQUEST];
        loop {
            let mut source = source.lock();
            let start = Instant::now();
            let filled = source.0.fill(&mut buf);
            source.1 += start.elapsed();
            drop(source);
            let Some((offset, len)) = filled else { break };
            disk.digests.put(offset, &buf[..len])?;
            connection.write(offset, &buf[..len])?;
            bar.inc(len as u64);
        }
        connection.drain(&mut |_, _| {})
    })?;
    let (reader, reading) = source.into_inner();
    Ok((reader.incomplete, reading))
}

/// Reads the whole disk and compares it page by page. Returns the number of pages.
///
/// # Errors
/// A connection fails, or a page differs.
pub(super) fn verify(disk: Target<'_>, deleted: Deleted, bar: &ProgressBar) -> Result<u64> {
    let (next, wrong, compared) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    on_all_connections(disk, |connection| {
        let mut compare = |offset: u64, data: &[u8]| {
            // Relaxed, here and below: joining the threads orders them before they are read.
            compared.fetch_add(data.len() as u64, Ordering::Relaxed);
            wrong.fetch_add(disk.digests.wrong_pages(offset, data, deleted), Ordering::Relaxed);
            bar.inc(data.len() as u64);
        };
        while let Some((offset, len)) = next_chunk(&next, disk.bytes) {
            connection.queue(Command::Read, offset, len, &mut compare)?;
        }
        connection.drain(&mut compare)
    })?;
    let (wrong, compared) = (wrong.into_inner(), compared.into_inner());
    ensure!(compared == disk.bytes, "only {compared} of {} bytes were read back", disk.bytes);
    let pages = compared / PAGE as u64;
    ensure!(wrong == 0, "{wrong} of {pages} pages differ from what was sent");
    Ok(pages)
}

/// Trims pages. Returns the number of requests.
///
/// # Errors
/// A connection fails.
pub(super) fn delete(disk: Target<'_>, what: Deleted, bar: &ProgressBar) -> Result<u64> {
    let (next, requests) = (AtomicU64::new(0), AtomicU64::new(0));
    on_all_connections(disk, |connection| {
        let mut trim = |offset: u64, len: usize| {
            requests.fetch_add(1, Ordering::Relaxed);
            connection.queue(Command::Trim, offset, len, &mut |_, _| {})
        };
        while let Some((offset, len)) = next_chunk(&next, disk.bytes) {
            match what {
                Deleted::Nothing => {}
                Deleted::Everything => trim(offset, len)?,
                Deleted::EverySecondPage => (PAGE..len)
                    .step_by(2 * PAGE)
                    .try_for_each(|start| trim(offset + start as u64, PAGE))?,
            }
            bar.inc(len as u64);
        }
        connection.drain(&mut |_, _| {})
    })?;
    Ok(requests.into_inner())
}

fn next_chunk(next: &AtomicU64, bytes: u64) -> Option<(u64, usize)> {
    let offset = next.fetch_add(1, Ordering::Relaxed) * MAX_REQUEST as u64;
    let len = bytes.saturating_sub(offset).min(MAX_REQUEST as u64);
    (len > 0).then_some((offset, len as usize))
}

/// Runs `work` on all connections in parallel; returns the first error.
fn on_all_connections(
    disk: Target<'_>,
    work: impl Fn(&mut Connection) -> Result<()> + Sync,
) -> Result<()> {
    let run_one = || {
        let mut connection = Connection::open(disk.socket)?;
        let (size, bytes) = (connection.size(), disk.bytes);
        ensure!(size == bytes, "the disk has {size} bytes, not {bytes}");
        work(&mut connection)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(run_one)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| bail!("a connection's thread panicked"))
        })
    })
}

const _: () = assert!(
    (MAX_REQUEST / PAGE).is_multiple_of(2),
    "a page's parity in its request must be its parity on the disk"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Corpus;
    use block::{
        BlockDevice, BlockError, BlockSizes, Bytes, Span, StatusExtent, ZeroMode, ZeroSpeed,
    };
    use nbd::{Listen, Server, ServerConfig};
    use std::sync::Arc;
    use zram::{Zram, ZramConfig};

    #[test]
    fn changed_missing_and_undeleted_pages_are_found() {
        let data: Vec<u8> = (0..4 * PAGE).map(|place| (place / 7) as u8).collect();
        let digests = Digests::new(4 * PAGE as u64);
        digests.put(0, &data).expect("room for four pages");
        assert!(digests.put(0, &data).is_err(), "twice");
        assert!(digests.put(MAX_REQUEST as u64, &data).is_err(), "past the end");

        assert_eq!(digests.wrong_pages(0, &data, Deleted::Nothing), 0);
        assert_eq!(digests.wrong_pages(0, &data, Deleted::EverySecondPage), 2);
        assert_eq!(digests.wrong_pages(0, &data[..3 * PAGE], Deleted::Nothing), 1);
        let mut changed = data.clone();
        changed[2 * PAGE + 5] ^= 1;
        assert_eq!(digests.wrong_pages(0, &changed, Deleted::Nothing), 1);
        let mut half = data;
        half[PAGE..2 * PAGE].fill(0);
        half[3 * PAGE..].fill(0);
        assert_eq!(digests.wrong_pages(0, &half, Deleted::EverySecondPage), 0);
        assert_eq!(digests.wrong_pages(0, &half, Deleted::Nothing), 2);
    }

    /// A disk that flips one bit of what it reads at offset `at`.
    struct BitFlipDisk {
        disk: Zram,
        at: u64,
    }

    impl BlockDevice for BitFlipDisk {
        fn size(&self) -> Bytes {
            self.disk.size()
        }
        fn block_sizes(&self) -> BlockSizes {
            self.disk.block_sizes()
        }
        fn is_read_only(&self) -> bool {
            self.disk.is_read_only()
        }
        fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError> {
            self.disk.read(span, buf)?;
            if (span.offset()..span.end()).contains(&self.at) {
                buf[(self.at - span.offset()) as usize] ^= 0x10;
            }
            Ok(())
        }
        fn verify(&self, span: Span) -> Result<(), BlockError> {
            self.disk.verify(span)
        }
        fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError> {
            self.disk.write(span, buf)
        }
        fn flush(&self) -> Result<(), BlockError> {
            self.disk.flush()
        }
        fn discard(&self, span: Span) -> Result<(), BlockError> {
            self.disk.discard(span)
        }
        fn write_zeroes(
            &self,
            span: Span,
            mode: ZeroMode,
            speed: ZeroSpeed,
        ) -> Result<(), BlockError> {
            self.disk.write_zeroes(span, mode, speed)
        }
        fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool) {
            self.disk.status(span, visit);
        }
    }

    /// Loads a few files over a real socket and reads them back; the disk flips a bit at `at`.
    fn load_and_verify(at: u64) -> Result<u64> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for number in 0..5u32 {
            let text: String =
                (0..30_000u32).map(|word| (word * (number + 3)).to_string()).collect();
            std::fs::write(folder.path().join(number.to_string()), text).expect("a small file");
        }
        let corpus = Corpus::find(&[folder.path().to_owned()], 1 << 30).expect("five files");
        let disk = BitFlipDisk {
            disk: Zram::new(ZramConfig::new(Bytes(corpus.bytes))).expect("a small disk"),
            at,
        };
        let socket = folder.path().join("nbd");
        let server =
            Server::bind(Listen::Unix(socket.clone()), Arc::new(disk), ServerConfig::default())
                .expect("bind");
        let handle = server.handle();
        let thread = std::thread::spawn(move || server.run());
        let (digests, bar) = (Digests::new(corpus.bytes), ProgressBar::hidden());
        let target = Target { socket: &socket, bytes: corpus.bytes, digests: &digests };
        load(target, corpus.reader(), &bar).expect("the disk accepts every page");
        let verdict = verify(target, Deleted::Nothing, &bar);
        if verdict.is_ok() {
            delete(target, Deleted::EverySecondPage, &bar).expect("the disk trims");
            verify(target, Deleted::EverySecondPage, &bar).expect("the other pages remain");
            verify(target, Deleted::Nothing, &bar).expect_err("half of the pages are deleted");
        }
        handle.shutdown();
        thread.join().expect("no panic").expect("an orderly end");
        verdict
    }

    #[test]
    fn a_single_flipped_bit_is_an_error() {
        let pages = load_and_verify(u64::MAX).expect("a disk without a flipped bit");
        assert!(pages > MAX_REQUEST as u64 / PAGE as u64, "more than one request: {pages} pages");
        let error = load_and_verify(300_001).expect_err("a bit is wrong").to_string();
        assert_eq!(error, format!("1 of {pages} pages differ from what was sent"));
    }
}
