//! The throughput of the protocol: a device that only copies, and a client that keeps 32 requests
//! in flight.
//!
//! Ignored by default, because the tests measure and take seconds:
//! `cargo test --release -p memzip-nbd --test throughput -- --ignored --nocapture --test-threads 1`
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use block::{
    AllocationState, BlockDevice, BlockError, BlockSizes, Bytes, Span, StatusExtent, ZeroMode,
    ZeroSpeed,
};
use fastrand::Rng;

use support::client::{Client, head, word};
use support::served::Served;

const SIZE: u64 = 64 << 20;
const DEPTH: u64 = 32;
/// Offset of the cookie in a simple reply and in a chunk. Units: bytes.
const COOKIE_AT: usize = 8;

/// A device whose reads and writes only copy.
struct Flat(RwLock<Vec<u8>>);

impl BlockDevice for Flat {
    fn size(&self) -> Bytes {
        Bytes(SIZE)
    }
    fn block_sizes(&self) -> BlockSizes {
        BlockSizes { minimum: 1, preferred: 4096 }
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), BlockError> {
        buf.copy_from_slice(&self.0.read().unwrap()[span.offset() as usize..span.end() as usize]);
        Ok(())
    }
    fn verify(&self, _: Span) -> Result<(), BlockError> {
        Ok(())
    }
    fn write(&self, span: Span, buf: &[u8]) -> Result<(), BlockError> {
        self.0.write().unwrap()[span.offset() as usize..span.end() as usize].copy_from_slice(buf);
        Ok(())
    }
    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
    fn discard(&self, _: Span) -> Result<(), BlockError> {
        Ok(())
    }
    fn write_zeroes(&self, _: Span, _: ZeroMode, _: ZeroSpeed) -> Result<(), BlockError> {
        Ok(())
    }
    fn status(&self, span: Span, visit: &mut dyn FnMut(StatusExtent) -> bool) {
        visit(StatusExtent { len: span.len(), content: AllocationState::Data });
    }
}

fn flat() -> Arc<Flat> {
    Arc::new(Flat(RwLock::new(vec![0x5a; SIZE as usize])))
}

/// The command that a load sends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Job {
    Read,
    Write,
}

/// Keeps `depth` requests in flight until `stop` is set and calls `done` with the time of each.
/// Returns the number of replies.
fn load(
    mut stream: UnixStream,
    job: Job,
    depth: u64,
    structured: bool,
    stop: &AtomicBool,
    mut done: impl FnMut(Duration),
) -> u64 {
    let head_len = match (structured, job) {
        (false, _) => 16,
        (true, Job::Read) => 28,
        (true, Job::Write) => 20,
    };
    let reply_len = head_len + if job == Job::Read { 4096 } else { 0 };
    let payload = vec![0xa5; 4096];
    let mut rng = Rng::with_seed(std::process::id().into());
    let mut out = Vec::with_capacity(256 << 10);
    let mut started = vec![Instant::now(); depth as usize];
    let push = |out: &mut Vec<u8>, cookie: u64, rng: &mut Rng| {
        let kind = if job == Job::Read { 0 } else { 1 };
        out.extend_from_slice(&head(0, kind, cookie, rng.u64(..SIZE / 4096) * 4096, 4096));
        if job == Job::Write {
            out.extend_from_slice(&payload);
        }
    };
    for cookie in 0..depth {
        push(&mut out, cookie, &mut rng);
    }
    stream.write_all(&out).unwrap();
    let mut read_buffer = vec![0; 1 << 20];
    let (mut end, mut count, mut flying) = (0, 0, depth);
    while flying > 0 {
        let received = stream.read(&mut read_buffer[end..]).unwrap();
        assert!(received > 0, "the server closed the connection");
        end += received;
        out.clear();
        let now = Instant::now();
        let stopping = stop.load(Ordering::Relaxed);
        let mut at = 0;
        while end - at >= reply_len {
            let cookie = u64::from_be_bytes(read_buffer[at + COOKIE_AT..][..8].try_into().unwrap());
            assert!(cookie < depth);
            if !structured {
                assert_eq!(word(&read_buffer[at + 4..]), 0);
            }
            at += reply_len;
            count += 1;
            done(now - started[cookie as usize]);
            if stopping {
                flying -= 1;
            } else {
                started[cookie as usize] = now;
                push(&mut out, cookie, &mut rng);
            }
        }
        read_buffer.copy_within(at..end, 0);
        end -= at;
        stream.write_all(&out).unwrap();
    }
    count
}

fn connect(path: &Path, structured: bool) -> UnixStream {
    if structured { Client::structured(path).stream } else { Client::simple(path).stream }
}

fn rate(path: &Path, job: Job, connections: usize, structured: bool, time: Duration) -> f64 {
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let total: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    load(connect(path, structured), job, DEPTH, structured, &stop, |_| ())
                })
            })
            .collect();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    total as f64 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "measures; needs a quiet machine and a release build"]
fn requests_per_second_at_depth_32() {
    let served = Served::unix(flat());
    for connections in [1, 2, 4] {
        for (job, structured) in [(Job::Read, false), (Job::Read, true), (Job::Write, false)] {
            let mut rates: Vec<f64> = (0..3)
                .map(|_| rate(served.path(), job, connections, structured, Duration::from_secs(1)))
                .collect();
            rates.sort_by(f64::total_cmp);
            let form = if structured { "structured" } else { "simple" };
            println!(
                "{job:?} 4 KiB, {form}, {connections} connections: {:.0} requests/s",
                rates[1]
            );
            assert!(rates[1] > 0.0);
        }
    }
}

fn p99(path: &Path, time: Duration) -> (Duration, Duration) {
    let stop = AtomicBool::new(false);
    let mut times = Vec::with_capacity(1 << 20);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            load(connect(path, false), Job::Read, 1, false, &stop, |time| times.push(time))
        });
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[test]
#[ignore = "measures; needs a quiet machine and a release build"]
fn read_latency_during_a_flood_of_writes() {
    let served = Served::unix(flat());
    let alone = p99(served.path(), Duration::from_secs(2));
    let stop = AtomicBool::new(false);
    let during = thread::scope(|scope| {
        let flood = scope
            .spawn(|| load(connect(served.path(), false), Job::Write, DEPTH, false, &stop, |_| ()));
        let during = p99(served.path(), Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        during
    });
    println!("read at depth 1, alone: median {:?}, p99 {:?}", alone.0, alone.1);
    println!("during a flood of writes: median {:?}, p99 {:?}", during.0, during.1);
}
