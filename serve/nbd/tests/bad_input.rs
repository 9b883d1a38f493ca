//! Clients that send invalid data, stop half-way, never read, or connect in large numbers. The
//! server keeps serving all others.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nbd::ServerConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use support::client::{Client, head};
use support::disk::Disk;
use support::served::{Served, eventually};

const MIB: u64 = 1 << 20;

/// Checks that a new client can write and read.
fn still_serves(served: &Served) {
    let mut client = Client::simple(served.path());
    client.store(5 * MIB, b"alive");
    assert_eq!(client.load(5 * MIB, 5), b"alive");
}

#[test]
fn garbage_handshake_ends_only_its_connection() {
    let (_, served) = Served::disk(8 * MIB);
    for seed in 0..32_u8 {
        let mut client = Client::connect(served.path());
        let garbage: Vec<u8> =
            (0..10_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect();
        // The server may close the connection while the client is still sending.
        let _ = client.stream.write_all(&garbage);
    }
    still_serves(&served);
    eventually("the end of all connections", || {
        served.handle.stats().errors.broken_connections == 32
    });
}

/// The socket of such a client is reset, because replies in it were not read.
#[test]
fn a_client_that_leaves_its_replies_unread_is_not_broken() {
    let (_, served) = Served::disk(MIB);
    let mut client = Client::simple(served.path());
    client.request(0, 0, 1, 0, 4096);
    eventually("the reply", || served.handle.stats().bytes_read == 4096);
    thread::sleep(Duration::from_millis(100));
    drop(client);
    eventually("the end", || served.handle.stats().connections_current == 0);
    assert_eq!(served.handle.stats().errors.broken_connections, 0);
}

#[test]
fn garbage_request_ends_only_its_connection() {
    let (_, served) = Served::disk(8 * MIB);
    for mut client in served.both() {
        client.send(&[0x5a; 28]);
        assert!(client.is_closed());
    }
    still_serves(&served);
}

#[test]
fn requests_before_garbage_are_answered() {
    let (_, served) = Served::disk(8 * MIB);
    let mut client = Client::simple(served.path());
    let mut bytes = head(0, 5, 1, 0, 1);
    bytes.extend_from_slice(&[0xff; 28]);
    client.send(&bytes);
    assert_eq!(client.errno(1), 0);
    assert!(client.is_closed());
}

#[test]
fn a_client_may_leave_after_any_byte() {
    let (_, served) = Served::disk(8 * MIB);
    let mut whole = 3_u32.to_be_bytes().to_vec();
    whole.extend_from_slice(b"IHAVEOPT\0\0\0\x08\0\0\0\0");
    whole.extend_from_slice(b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0");
    whole.extend_from_slice(&head(0, 1, 1, 0, 9));
    whole.extend_from_slice(b"nine byte");
    whole.extend_from_slice(&head(0, 0, 2, 0, 9));
    for len in 0..=whole.len() {
        let mut client = Client::connect(served.path());
        client.send(&whole[..len]);
    }
    still_serves(&served);
    eventually("the end of all connections", || served.handle.stats().connections_current == 0);
}

#[test]
fn a_short_write_cut_off_stores_nothing() {
    let (disk, served) = Served::disk(8 * MIB);
    let mut client = Client::simple(served.path());
    client.send(&head(0, 1, 1, 0, 65536));
    client.send(&[7; 65535]);
    drop(client);
    eventually("the end of the connection", || {
        served.handle.stats().errors.broken_connections == 1
    });
    assert!(disk.content().iter().all(|&byte| byte == 0));
    still_serves(&served);
}

#[test]
fn a_long_write_cut_off_stores_whole_pages() {
    let (disk, served) = Served::disk(8 * MIB);
    let mut client = Client::simple(served.path());
    client.send(&head(0, 1, 1, 0, 4 << 20));
    client.send(&vec![7; (2 << 20) + 77]);
    drop(client);
    eventually("the end of the connection", || {
        served.handle.stats().errors.broken_connections == 1
    });
    let content = disk.content();
    let written = content.iter().take_while(|&&byte| byte == 7).count();
    assert_eq!(written % 4096, 0);
    assert!(content[written..].iter().all(|&byte| byte == 0));
    still_serves(&served);
}

#[test]
fn announced_gigabytes_do_not_stop_the_server() {
    let (_, served) = Served::disk(8 * MIB);
    let mut client = Client::simple(served.path());
    client.send(&head(0, 1, 1, 0, u32::MAX));
    client.send(&[1; 100_000]);
    let mut negotiating = Client::greet(served.path(), 3);
    negotiating.send(b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff");
    negotiating.send(&[1; 100_000]);
    still_serves(&served);
}

#[test]
fn a_client_that_never_reads_blocks_only_itself() {
    let (_, served) = Served::disk(8 * MIB);
    let mut unreading = Client::simple(served.path());
    for cookie in 0..64 {
        unreading.request(0, 0, cookie, 0, 1 << 20);
    }
    still_serves(&served);
    drop(unreading);
    eventually("the end of the connection", || served.handle.stats().connections_current == 0);
}

#[test]
fn a_handshake_byte_by_byte_times_out() {
    let config =
        ServerConfig { handshake_timeout: Duration::from_millis(400), ..ServerConfig::default() };
    let mut served = Served::with(Arc::new(Disk::new(MIB)), config);
    let start = Instant::now();
    let mut slow = Client::greet(served.path(), 3);
    let mut sent = 0;
    while slow.stream.write_all(b"I").is_ok() {
        sent += 1;
        thread::sleep(Duration::from_millis(40));
        assert!(start.elapsed() < Duration::from_secs(5), "sent {sent} bytes");
    }
    assert!(start.elapsed() >= Duration::from_millis(400));
    eventually("the end of the handshake", || served.handle.stats().handshakes_current == 0);
    // The same for a client that sends nothing, and for one that keeps sending options.
    let mut silent = Client::connect(served.path());
    silent.take(18);
    assert!(silent.is_closed());
    let mut endless = Client::greet(served.path(), 3);
    while endless.stream.write_all(b"IHAVEOPT\0\0\0\x63\0\0\0\0").is_ok() {
        thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    served.stop();
}

#[test]
fn an_idle_client_stays_after_the_handshake() {
    let config =
        ServerConfig { handshake_timeout: Duration::from_millis(100), ..ServerConfig::default() };
    let served = Served::with(Arc::new(Disk::new(MIB)), config);
    let mut client = Client::simple(served.path());
    thread::sleep(Duration::from_millis(300));
    assert_eq!(client.error_of(0, 5, 0, 1), 0);
}

#[test]
fn a_thousand_clients_are_served_at_the_same_time() {
    room_for_files(2200);
    let (_, served) = Served::disk(8 * MIB);
    let mut clients: Vec<Client> = (0..1000).map(|_| Client::simple(served.path())).collect();
    assert_eq!(served.handle.stats().connections_current, 1000);
    for (number, client) in clients.iter_mut().enumerate() {
        client.write(1, number as u64 * 4096, &(number as u64).to_be_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.errno(1), 0);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.request(0, 0, 2, (999 - number as u64) * 4096, 8);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.errno(2), 0);
        assert_eq!(client.take(8), (999 - number as u64).to_be_bytes());
    }
    drop(clients);
    eventually("the end of all connections", || served.handle.stats().connections_current == 0);
    still_serves(&served);
}

#[test]
fn a_client_over_the_limit_may_ask_again() {
    let config = ServerConfig { max_connections: 2, ..ServerConfig::default() };
    let served = Served::with(Arc::new(Disk::new(MIB)), config);
    let first = Client::simple(served.path());
    let _second = Client::simple(served.path());
    let mut third = Client::greet(served.path(), 3);
    let replies = third.ask(7, &[0; 6]);
    assert_eq!(replies, [((1 << 31) + 2, b"too many connections: try again later".to_vec())]);
    assert_eq!(third.ask(2, &[]), [(1, vec![])]);
    let mut old = Client::greet(served.path(), 3);
    old.send_option(1, b"");
    assert!(old.is_closed());
    assert_eq!(served.handle.stats().connections_refused, 2);
    drop(first);
    eventually("a free connection", || served.handle.stats().connections_current == 1);
    Client::simple(served.path());
}

#[test]
fn every_client_over_the_limit_gets_an_error() {
    let config = ServerConfig { max_connections: 1, ..ServerConfig::default() };
    let served = Served::with(Arc::new(Disk::new(MIB)), config);
    let mut active = Client::simple(served.path());
    let mut crowd: Vec<Client> = (0..100).map(|_| Client::greet(served.path(), 3)).collect();
    for client in &mut crowd {
        let replies = client.ask(7, &[0; 6]);
        assert_eq!(replies, [((1 << 31) + 2, b"too many connections: try again later".to_vec())]);
    }
    assert_eq!(served.handle.stats().connections_refused, 100);
    assert_eq!(active.error_of(0, 5, 0, 1), 0);
    // When the connection is free, one of the refused clients can start.
    drop(active);
    eventually("a free connection", || served.handle.stats().connections_current == 0);
    assert_eq!(crowd[99].ask(7, &[0; 6]).last().unwrap().0, 1);
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    let config = ServerConfig {
        max_connections: 4,
        max_handshakes: 8,
        handshake_timeout: Duration::from_secs(4),
        ..ServerConfig::default()
    };
    let served = Served::with(Arc::new(Disk::new(MIB)), config);
    let _silent: Vec<Client> = (0..48).map(|_| Client::connect(served.path())).collect();
    let start = Instant::now();
    let mut client = Client::simple(served.path());
    // The server evicts places every half second; without eviction, eight clients would leave
    // every four seconds.
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    assert_eq!(client.error_of(0, 5, 0, 1), 0);
    let stats = served.handle.stats();
    assert!(stats.connections_refused >= 40 && stats.handshakes_current <= 8, "{stats:?}");
}

#[test]
fn simultaneous_clients_do_not_evict_each_other() {
    let config = ServerConfig { max_handshakes: 2, ..ServerConfig::default() };
    let served = Served::with(Arc::new(Disk::new(MIB)), config);
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| Client::simple(served.path()));
        }
    });
    assert_eq!(served.handle.stats().connections_refused, 0);
}

#[test]
fn two_clients_on_the_same_pages_see_whole_pages() {
    let (_, served) = Served::disk(8 * MIB);
    thread::scope(|scope| {
        for letter in [b'a', b'b'] {
            let served = &served;
            scope.spawn(move || {
                let mut client = Client::simple(served.path());
                for _ in 0..300 {
                    client.store(0, &[letter; 4 * 4096]);
                    for page in client.load(0, 4 * 4096).chunks(4096) {
                        assert!(
                            page.iter().all(|&byte| byte == page[0])
                                && (page[0] == b'a' || page[0] == b'b')
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn a_half_closed_client_gets_its_replies() {
    let (_, served) = Served::disk(8 * MIB);
    let mut client = Client::simple(served.path());
    client.request(0, 5, 1, 0, 1);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.errno(1), 0);
    assert!(client.is_closed());
}

/// Raises the limit on open files: both ends of every connection are in this process.
fn room_for_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
            .expect("a higher limit on open files");
    }
}
