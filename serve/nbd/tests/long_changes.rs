//! Trims and zeroings of huge ranges: they can be interrupted, and uninterrupted ones are exact.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use block::{BlockDevice, BlockError, BlockSizes, Bytes, Span, StatusExtent, ZeroMode, ZeroSpeed};
use nbd::ServerConfig;

use support::client::{Client, head};
use support::command::{FAST_ZERO, NO_HOLE, TRIM, ZEROES};
use support::served::{Served, eventually};

const ENOTSUP: u32 = 95;
const ESHUTDOWN: u32 = 108;
const HUGE: u64 = 2 << 40;

/// A disk of 2 TiB of zeros on which a change takes 20 ms per GiB: 40 s for the whole disk.
/// Counts the changed bytes.
#[derive(Default)]
struct Huge(AtomicU64);

impl Huge {
    fn change(&self, span: Span) -> Result<(), BlockError> {
        thread::sleep(Duration::from_nanos(span.len() / 54));
        self.0.fetch_add(span.len(), Ordering::Relaxed);
        Ok(())
    }
}

impl BlockDevice for Huge {
    fn size(&self) -> Bytes {
        Bytes(HUGE)
    }
    fn block_sizes(&self) -> BlockSizes {
        BlockSizes { minimum: 1, preferred: 4096 }
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn read(&self, _: Span, buf: &mut [u8]) -> Result<(), BlockError> {
        buf.fill(0);
        Ok(())
    }
    fn verify(&self, _: Span) -> Result<(), BlockError> {
        Ok(())
    }
    fn write(&self, span: Span, _: &[u8]) -> Result<(), BlockError> {
        self.change(span)
    }
    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
    fn discard(&self, span: Span) -> Result<(), BlockError> {
        self.change(span)
    }
    fn write_zeroes(&self, span: Span, _: ZeroMode, speed: ZeroSpeed) -> Result<(), BlockError> {
        let is_ragged = !span.offset().is_multiple_of(4096) || !span.end().is_multiple_of(4096);
        if speed == ZeroSpeed::FastOnly && is_ragged {
            Err(BlockError::NotFast)
        } else {
            self.change(span)
        }
    }
    fn status(&self, _: Span, _: &mut dyn FnMut(StatusExtent) -> bool) {}
}

impl Huge {
    /// Returns the number of changed bytes.
    fn changed(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves such a disk with a grace of 0.7 s at a shutdown.
fn huge() -> (Arc<Huge>, Served) {
    let device = Arc::new(Huge::default());
    let config =
        ServerConfig { shutdown_grace: Duration::from_millis(700), ..ServerConfig::default() };
    let served = Served::with(device.clone(), config);
    (device, served)
}

#[test]
fn long_changes_end_with_the_grace_of_a_shutdown() {
    let (device, mut served) = huge();
    let mut clients = [Client::extended(served.path()), Client::extended(served.path())];
    clients[0].request_extended(0, TRIM, 1, 0, HUGE);
    clients[1].request_extended(NO_HOLE, ZEROES, 1, 4095, HUGE - 4096);
    eventually("a change", || device.changed() > 0);
    let start = Instant::now();
    served.stop();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    for client in &mut clients {
        assert_eq!(client.errno(1), ESHUTDOWN);
        assert!(client.is_closed());
    }
    assert!(device.changed() < HUGE, "the change is interrupted");
}

#[test]
fn many_changes_end_with_the_grace_of_a_shutdown() {
    const MANY: u64 = 1000;
    const LEN: u32 = 128 << 20;
    let (device, mut served) = huge();
    let mut client = Client::simple(served.path());
    // All changes together take 2.5 s.
    client.send(&(0..MANY).flat_map(|cookie| head(0, TRIM, cookie, 0, LEN)).collect::<Vec<_>>());
    eventually("a change", || device.changed() > 0);
    served.stop();
    let refused = (0..MANY).filter(|&cookie| client.errno(cookie) == ESHUTDOWN).count() as u64;
    assert_eq!(device.changed(), (MANY - refused) * u64::from(LEN));
    assert!((1..MANY).contains(&refused), "{refused} of {MANY} refused");
}

#[test]
fn long_changes_end_when_the_client_is_gone() {
    let (device, served) = huge();
    let mut client = Client::extended(served.path());
    client.request_extended(0, TRIM, 1, 0, HUGE);
    eventually("a change", || device.changed() > 0);
    drop(client);
    eventually("the end of the connection", || served.handle.stats().connections_current == 0);
    assert!(device.changed() < HUGE, "the change is interrupted");
}

#[test]
fn long_changes_cover_their_range_once() {
    let (device, served) = huge();
    let mut client = Client::extended(served.path());
    let (offset, len) = ((1 << 30) - 5, (3 << 30) + 77);
    client.request_extended(0, TRIM, 1, offset, len);
    // A client that closes only its sending side does not count as gone.
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.errno(1), 0);
    assert_eq!(device.changed(), len);
}

#[test]
fn a_long_fast_zero_is_refused_before_any_change() {
    let (device, served) = huge();
    let mut client = Client::extended(served.path());
    for (offset, len) in [(0, (1 << 30) + 5), (5, (1 << 30) - 5), (5, 1 << 30)] {
        assert_eq!(
            client.extended_error_of(FAST_ZERO, ZEROES, offset, len),
            ENOTSUP,
            "{len} bytes at {offset}"
        );
    }
    assert_eq!(device.changed(), 0);
    assert_eq!(client.extended_error_of(FAST_ZERO, ZEROES, 4096, 1 << 30), 0);
    assert_eq!(device.changed(), 1 << 30);
}
