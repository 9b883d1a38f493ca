//! Clients that are slow on purpose: each wait for them has a deadline, and their memory is
//! bounded.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nbd::{
    ConnectionContext, Counters, Export, Inbound, ServerConfig, StartDecision, serve_connection,
};

use support::client::{Client, head};
use support::disk::Disk;
use support::served::Served;

const MIB: u64 = 1 << 20;
/// The deadline under test.
const SHORT: Duration = Duration::from_millis(300);
/// Far more than the deadline, and far less than a client needs for all bytes one by one.
const LONG: Duration = Duration::from_secs(10);

fn short() -> ServerConfig {
    ServerConfig { handshake_timeout: SHORT, send_timeout: SHORT, ..ServerConfig::default() }
}

/// Returns the number of connections, in the handshake or active.
fn connections(served: &Served) -> u64 {
    let stats = served.handle.stats();
    stats.connections_current + stats.handshakes_current
}

/// Calls `step` until no connection is left. Panics after [`LONG`].
fn gone(served: &Served, mut step: impl FnMut()) {
    let start = Instant::now();
    while connections(served) > 0 {
        assert!(start.elapsed() < LONG, "the connection outlives its deadline");
        step();
        thread::sleep(Duration::from_millis(20));
    }
}

/// A reader that repeats the same bytes in large packets.
struct Flood(Vec<u8>, u32);

impl Read for Flood {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (first, packets) = (self.1 == 0, self.1);
        self.1 += 1;
        if first {
            buf[..4].copy_from_slice(&3_u32.to_be_bytes());
            return Ok(4);
        }
        if packets > 3 {
            return Ok(0);
        }
        let len = buf.len() / self.0.len() * self.0.len();
        buf[..len].chunks_mut(self.0.len()).for_each(|part| part.copy_from_slice(&self.0));
        Ok(len)
    }
}

impl Inbound for Flood {}

/// A writer that records the length of the longest write.
#[derive(Default)]
struct Longest(usize);

impl Write for &mut Longest {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 = self.0.max(buf.len());
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn option_replies_never_accumulate() {
    let name = "x".repeat(4000);
    let export = Export { name, description: String::new(), device: Arc::new(Disk::new(MIB)) };
    let context = ConnectionContext {
        export: &export,
        counters: &Counters::default(),
        accept_start: &|| StartDecision::Accept,
        handshake_timeout: Duration::from_secs(60),
        idle_timeout: None,
    };
    let mut longest = Longest::default();
    let _ =
        serve_connection(Flood(b"IHAVEOPT\0\0\0\x03\0\0\0\0".to_vec(), 0), &mut longest, context);
    assert!((4000..16 << 10).contains(&longest.0), "{} bytes at once", longest.0);
}

#[test]
fn a_slow_reader_does_not_prolong_the_handshake() {
    let served = Served::with(
        Arc::new(Disk::new(MIB)),
        ServerConfig { export_name: "x".repeat(4000), ..short() },
    );
    let client = Client::greet(served.path(), 3);
    let mut sender = client.stream.try_clone().unwrap();
    let flood = thread::spawn(move || {
        while sender.write_all(&b"IHAVEOPT\0\0\0\x03\0\0\0\0".repeat(100)).is_ok() {}
    });
    let mut reader = &client.stream;
    gone(&served, || _ = reader.read(&mut [0; 4096]));
    drop(client);
    flood.join().unwrap();
}

/// Requests more data than the socket's buffers hold.
fn ask_for_much(served: &Served) -> UnixStream {
    let mut client = Client::simple(served.path());
    for cookie in 0..8 {
        client.request(0, 0, cookie, 0, 2 << 20);
    }
    client.stream
}

#[test]
fn a_client_that_reads_no_replies_is_cut_off() {
    let served = Served::with(Arc::new(Disk::new(4 * MIB)), short());
    let _unreading = ask_for_much(&served);
    gone(&served, || ());
    assert_eq!(served.handle.stats().errors.broken_connections, 1);
}

#[test]
fn a_reply_read_byte_by_byte_is_cut_off() {
    let served = Served::with(Arc::new(Disk::new(4 * MIB)), short());
    let mut slow = ask_for_much(&served);
    gone(&served, || slow.read_exact(&mut [0; 512]).unwrap());
}

#[test]
fn a_slow_reader_gets_all_replies() {
    let config = ServerConfig { send_timeout: Duration::from_secs(20), ..short() };
    let served = Served::with(Arc::new(Disk::new(4 * MIB)), config);
    let mut slow = ask_for_much(&served);
    let mut piece = vec![0; 64 << 10];
    for _ in 0..8 {
        slow.read_exact(&mut [0; 16]).unwrap();
        for _ in 0..32 {
            slow.read_exact(&mut piece).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn the_idle_timeout_ends_a_silent_connection() {
    let served = Served::with(
        Arc::new(Disk::new(MIB)),
        ServerConfig { idle_timeout: Some(SHORT), ..short() },
    );
    let mut idle = Client::simple(served.path());
    gone(&served, || ());
    assert!(idle.is_closed());
}

#[test]
fn half_a_request_does_not_prolong_the_idle_timeout() {
    let served = Served::with(
        Arc::new(Disk::new(MIB)),
        ServerConfig { idle_timeout: Some(SHORT), ..short() },
    );
    let mut slow = Client::simple(served.path());
    // The payload of a write of 1 MiB, sent byte by byte.
    slow.send(&head(0, 1, 1, 0, 1 << 20));
    gone(&served, || _ = slow.stream.write_all(&[7]));
}

#[test]
fn occasional_requests_keep_a_connection() {
    let config = ServerConfig { idle_timeout: Some(Duration::from_secs(3)), ..short() };
    let served = Served::with(Arc::new(Disk::new(MIB)), config);
    let mut client = Client::simple(served.path());
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(500));
        assert_eq!(client.error_of(0, 5, 0, 1), 0);
    }
}
