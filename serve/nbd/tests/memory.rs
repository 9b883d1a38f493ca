//! The memory of connections, however their clients behave. A binary of its own, because it
//! measures the whole process.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::io::{Read, Write};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use support::client::{Client, head};
use support::served::{Served, eventually};

const MIB: u64 = 1 << 20;
/// Two buffers of 256 KiB, a list of extents and the touched part of a stack.
const MAX_CONNECTION_BYTES: u64 = MIB;
/// Buffers for long simple replies, all connections together: eight of a header and 2 MiB of
/// data.
const MAX_REPLY_BUFFER_BYTES: u64 = 8 * (2 * MIB + 16);
/// Runs one test at a time, because each measures the whole process.
static SERIAL: Mutex<()> = Mutex::new(());

/// Returns the size of the two buffers of each connection, for `clients` connections.
fn buffers(clients: u64) -> u64 {
    clients * (256 * 1024 + 256 * 1024 + 16)
}

/// Returns the resident memory of the process. Units: bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn clients_in_long_requests_take_bounded_memory() {
    let _serial = SERIAL.lock();
    let (_, served) = Served::disk(40 * MIB);
    // Touch every page of the disk, so that only connections are measured below.
    let mut client = Client::simple(served.path());
    let payload = vec![7; 32 << 20];
    client.store(0, &payload);
    client.store(8 * MIB, &payload);
    let before = resident();
    let mut clients = Vec::new();
    for number in 0..48_u64 {
        let mut client = if number % 2 == 0 {
            Client::simple(served.path())
        } else {
            Client::structured(served.path())
        };
        if number < 16 {
            // This client stops in the middle of a write.
            client.send(&head(0, 1, 1, 0, 32 << 20));
            client.send(&payload[..31 << 20]);
        } else {
            // This client never reads its replies.
            for (flags, len) in [(0, 2 << 20), (0, 32 << 20)] {
                client.stream.write_all(&head(flags, 0, 1, 0, len)).unwrap();
            }
        }
        clients.push(client);
    }
    thread::sleep(Duration::from_millis(500));
    let (grown, number) = (resident().saturating_sub(before), clients.len() as u64);
    println!("{} KiB for {number} connections", grown >> 10);
    assert!(grown <= number * MAX_CONNECTION_BYTES + MAX_REPLY_BUFFER_BYTES, "{grown} bytes");
}

#[test]
fn unread_simple_replies_take_bounded_memory() {
    const CLIENTS: u64 = 120;
    let _serial = SERIAL.lock();
    let (disk, served) = Served::disk(4 * MIB);
    let data: Vec<u8> = (0..2 * MIB).map(|at| (at / 4096) as u8 | 1).collect();
    let mut other = Client::simple(served.path());
    other.store(0, &data);
    let counted = || served.handle.stats().buffer_bytes;
    let before = resident();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::simple(served.path())).collect();
    clients.iter_mut().for_each(|client| client.request(0, 0, 2, 0, 2 << 20));
    eventually("the use of all reply buffers", || {
        counted() == buffers(CLIENTS + 1) + MAX_REPLY_BUFFER_BYTES
    });
    thread::sleep(Duration::from_millis(500));
    let grown = resident().saturating_sub(before);
    println!("{} KiB for {CLIENTS} connections", grown >> 10);
    assert!(grown <= CLIENTS * MAX_CONNECTION_BYTES + MAX_REPLY_BUFFER_BYTES, "{grown} bytes");

    // Other clients are still served, and an error still precedes the payload.
    assert!(other.load(0, data.len() as u32) == data);
    disk.damage(3 * MIB);
    assert_eq!(other.error_of(0, 0, 2 * MIB, 2 << 20), 5);

    // A client that reads late gets its whole reply.
    for client in &mut clients {
        assert_eq!(client.errno(2), 0);
        assert!(client.take(data.len()) == data);
    }
    assert_eq!(counted(), buffers(CLIENTS + 1) + MAX_REPLY_BUFFER_BYTES, "the buffers are kept");
}

/// After a client closes in the middle of a long reply, later replies take no additional memory.
#[test]
fn an_aborted_reply_costs_no_memory_later() {
    const CLIENTS: u64 = 400;
    let _serial = SERIAL.lock();
    let (_, served) = Served::disk(4 * MIB);
    let mut aborting = Client::simple(served.path());
    assert_eq!(aborting.error_of(0, 0, 0, 2 << 20), 0);
    drop(aborting);
    eventually("the end of the connection", || served.handle.stats().connections_current == 0);
    let before = resident();
    let mut room = vec![0; 2 << 20];
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::simple(served.path())).collect();
    for group in clients.chunks_mut(7) {
        group.iter_mut().for_each(|client| client.request(0, 0, 2, 0, 2 << 20));
        // Each client has its buffer now.
        group.iter_mut().for_each(|client| assert_eq!(client.errno(2), 0));
        group.iter_mut().for_each(|client| client.stream.read_exact(&mut room).unwrap());
    }
    let grown = resident().saturating_sub(before);
    println!("{} KiB for {CLIENTS} connections that have had a long reply", grown >> 10);
    // Almost all of the connections' buffers are untouched.
    assert!(grown <= CLIENTS * MIB / 8 + MAX_REPLY_BUFFER_BYTES, "{grown} bytes");
    assert!(served.handle.stats().buffer_bytes <= buffers(CLIENTS) + MAX_REPLY_BUFFER_BYTES);
    drop(clients);
    eventually("the end of all connections", || served.handle.stats().connections_current == 0);
    assert!(served.handle.stats().buffer_bytes <= MAX_REPLY_BUFFER_BYTES);
}
