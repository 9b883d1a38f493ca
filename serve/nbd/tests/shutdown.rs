//! The view of clients during a shutdown: earlier requests are answered, later ones are refused,
//! and the connection ends in an orderly way.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nbd::ServerConfig;

use support::client::{Client, head, long, word};
use support::disk::{Disk, Slow};
use support::served::Served;

const MIB: u64 = 1 << 20;
const ESHUTDOWN: u32 = 108;
const REP_ERR_SHUTDOWN: u32 = (1 << 31) + 7;

/// Returns a server that executes a write of one second for the returned client.
fn draining() -> (Served, Client) {
    let served = Served::unix(Arc::new(Slow(Disk::new(MIB), Duration::from_secs(1))));
    let mut busy = Client::simple(served.path());
    busy.write(1, 0, b"slow");
    thread::sleep(Duration::from_millis(200));
    (served, busy)
}

#[test]
fn requests_during_a_shutdown_are_refused() {
    let (served, mut busy) = draining();
    let mut clients = served.both();
    served.handle.shutdown();
    // Longer than a connection needs to notice the shutdown.
    thread::sleep(Duration::from_millis(200));
    for client in &mut clients {
        assert_eq!(client.error_of(0, 0, 0, 4096), ESHUTDOWN);
        assert_eq!(client.write_error(0, &[1; 4096]), ESHUTDOWN);
        assert_eq!(client.error_of(0, 3, 0, 0), ESHUTDOWN);
        client.request(0, 2, 4, 0, 0);
        assert!(client.is_closed());
    }
    assert_eq!(busy.errno(1), 0, "an earlier request is finished");
    assert_eq!(served.handle.stats().errors.shutting_down, 6);
}

/// A write whose payload is still arriving when the shutdown begins has the whole grace, as long
/// as the client continues to send.
#[test]
fn a_write_in_progress_is_finished() {
    let disk = Arc::new(Disk::new(4 * MIB));
    let mut served = Served::unix(disk.clone());
    let mut clients = served.both();
    for client in &mut clients {
        client.send(&head(0, 1, 1, 0, 2 << 20));
        client.send(&[7; 64 << 10]);
    }
    thread::sleep(Duration::from_millis(100));
    served.handle.shutdown();
    for _ in 1..32 {
        thread::sleep(Duration::from_millis(50));
        clients.iter_mut().for_each(|client| client.send(&[7; 64 << 10]));
    }
    for client in &mut clients {
        assert_eq!(client.errno(1), 0);
        assert!(client.is_closed());
    }
    served.stop();
    assert!(disk.content()[..2 << 20].iter().all(|&byte| byte == 7));
}

/// Clients that connect as fast as the server accepts them cannot delay its end.
#[test]
fn a_flood_of_clients_does_not_delay_a_shutdown() {
    let config =
        ServerConfig { shutdown_grace: Duration::from_millis(200), ..ServerConfig::default() };
    let mut served = Served::with(Arc::new(Disk::new(MIB)), config);
    let path = served.path().to_owned();
    let flood_time = Duration::from_secs(10);
    let flood = || {
        let (path, start) = (path.clone(), Instant::now());
        thread::spawn(
            move || while start.elapsed() < flood_time && UnixStream::connect(&path).is_ok() {},
        )
    };
    let floods: Vec<_> = (0..4).map(|_| flood()).collect();
    thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    served.stop();
    assert!(start.elapsed() < flood_time / 2, "{:?}", start.elapsed());
    floods.into_iter().for_each(|flood| flood.join().unwrap());
}

#[test]
fn an_idle_server_refuses_before_it_closes() {
    let mut served = Served::unix(Arc::new(Disk::new(MIB)));
    let mut client = Client::simple(served.path());
    served.handle.shutdown();
    client.request(0, 5, 1, 0, 1);
    // The request may arrive before or after the connection notices the shutdown; it gets a reply
    // in both cases.
    assert!([0, ESHUTDOWN].contains(&client.errno(1)));
    assert!(client.is_closed());
    served.stop();
}

#[test]
fn options_during_a_shutdown_are_refused() {
    let (served, mut busy) = draining();
    let mut clients = [Client::greet(served.path(), 3), Client::greet(served.path(), 3)];
    assert_eq!(clients[1].ask(3, &[]).last().unwrap().0, 1);
    served.handle.shutdown();
    thread::sleep(Duration::from_millis(100));
    for client in &mut clients {
        for option in [7, 3, 8, 6, 9, 10, 77] {
            assert_eq!(
                client.ask(option, &[0; 6]).last().unwrap().0,
                REP_ERR_SHUTDOWN,
                "option {option}"
            );
        }
        assert_eq!(client.ask(2, &[]), [(1, vec![])]);
        assert!(client.is_closed());
    }
    assert_eq!(busy.errno(1), 0);
}

#[test]
fn no_client_can_connect_during_a_shutdown() {
    let (served, mut busy) = draining();
    served.handle.shutdown();
    thread::sleep(Duration::from_millis(200));
    let error = UnixStream::connect(served.path()).expect_err("no server listens");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(busy.errno(1), 0, "the server is still running");

    let tcp = Served::tcp(Arc::new(Slow(Disk::new(MIB), Duration::from_secs(1))));
    let address = tcp.address();
    let mut busy = transmitting(address);
    let mut write = head(0, 1, 1, 0, 4);
    write.extend_from_slice(b"slow");
    busy.write_all(&write).unwrap();
    thread::sleep(Duration::from_millis(200));
    tcp.handle.shutdown();
    thread::sleep(Duration::from_millis(200));
    let error = TcpStream::connect(address).expect_err("no server listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let mut reply = [0; 16];
    busy.read_exact(&mut reply).unwrap();
    assert_eq!(word(&reply[4..8]), 0);
}

/// Returns a TCP client in the transmission phase, with simple replies.
fn transmitting(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0").unwrap();
    stream.read_exact(&mut [0; 28]).unwrap();
    stream
}

#[test]
fn no_reply_is_lost_when_a_busy_server_ends() {
    let mut served = Served::tcp(Arc::new(Slow(Disk::new(MIB), Duration::from_micros(200))));
    let mut reader = transmitting(served.address());
    let mut sender = reader.try_clone().unwrap();
    let enough = AtomicBool::new(false);
    let (sent, answers) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = 0;
            while !enough.load(Ordering::Relaxed) {
                let mut write = head(0, 1, sent, 0, 65536);
                write.extend_from_slice(&[7; 65536]);
                sender.write_all(&write).expect("the server receives requests");
                sent += 1;
            }
            sent
        });
        let reading = scope.spawn(|| {
            let mut answers = Vec::new();
            let mut reply = [0; 16];
            while reader.read_exact(&mut reply).is_ok() {
                assert_eq!(long(&reply[8..]), answers.len() as u64, "replies come in order");
                answers.push(word(&reply[4..8]));
                if answers.last() == Some(&ESHUTDOWN) {
                    // A correct client stops sending now. The requests that it has already sent
                    // still get replies.
                    enough.store(true, Ordering::Relaxed);
                }
            }
            enough.store(true, Ordering::Relaxed);
            assert_eq!(reader.read(&mut reply).expect("closed, not reset"), 0);
            answers
        });
        thread::sleep(Duration::from_millis(300));
        served.stop();
        (sending.join().unwrap(), reading.join().unwrap())
    });
    assert_eq!(answers.len() as u64, sent, "each request has a reply");
    let done = answers.iter().take_while(|&&errno| errno == 0).count();
    assert!(done > 0 && done < answers.len(), "{done} of {}", answers.len());
    assert!(answers[done..].iter().all(|&errno| errno == ESHUTDOWN));
}

#[test]
fn replies_before_garbage_arrive_over_tcp() {
    let served = Served::tcp(Arc::new(Disk::new(MIB)));
    let mut client = transmitting(served.address());
    let mut bytes = head(0, 5, 1, 0, 1);
    bytes.extend_from_slice(&[0xff; 600_000]);
    let mut sender = client.try_clone().unwrap();
    let sending = thread::spawn(move || _ = sender.write_all(&bytes));
    thread::sleep(Duration::from_millis(50));
    let mut reply = [0; 16];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(client.read(&mut reply).expect("closed, not reset"), 0);
    drop(client);
    sending.join().unwrap();
}

#[test]
fn a_shutdown_without_grace_does_not_wait() {
    let config = ServerConfig { shutdown_grace: Duration::ZERO, ..ServerConfig::default() };
    let mut served = Served::with(Arc::new(Disk::new(MIB)), config);
    let mut client = Client::simple(served.path());
    served.stop();
    assert!(client.is_closed());
}

#[test]
fn a_hung_device_delays_a_shutdown_by_one_grace() {
    let grace = Duration::from_secs(3);
    let config = ServerConfig { shutdown_grace: grace, ..ServerConfig::default() };
    let mut served = Served::with(Arc::new(Slow(Disk::new(MIB), Duration::from_secs(60))), config);
    let mut busy = Client::simple(served.path());
    busy.write(1, 0, b"slow");
    thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    served.stop();
    assert!((grace..2 * grace).contains(&start.elapsed()), "{:?}", start.elapsed());
}
