//! What a connection costs, whatever its client does. Alone in its binary, since it looks at the whole process.
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
/// Two buffers of 256 KiB, a list of extents, what is touched of a stack.
const MOST_A_CONNECTION: u64 = MIB;
/// For long simple replies, all connections together: eight buffers for a head and 2 MiB of data.
const MOST_FOR_REPLIES: u64 = 8 * (2 * MIB + 16);
/// One test at a time looks at the process.
static TURN: Mutex<()> = Mutex::new(());

/// The two buffers of so many connections.
fn buffers(clients: u64) -> u64 {
    clients * (256 * 1024 + 256 * 1024 + 16)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn clients_in_the_middle_of_long_requests_cost_a_bounded_amount_each() {
    let _turn = TURN.lock();
    let (_, served) = Served::disk(40 * MIB);
    // Every page of the disk is touched, so that only connections are measured below.
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
            // Stops in the middle of a write.
            client.send(&head(0, 1, 1, 0, 32 << 20));
            client.send(&payload[..31 << 20]);
        } else {
            // Never reads the answers.
            for (flags, len) in [(0, 2 << 20), (0, 32 << 20)] {
                client.stream.write_all(&head(flags, 0, 1, 0, len)).unwrap();
            }
        }
        clients.push(client);
    }
    thread::sleep(Duration::from_millis(500));
    let (grown, number) = (resident().saturating_sub(before), clients.len() as u64);
    println!("{} KiB for {number} connections", grown >> 10);
    assert!(grown <= number * MOST_A_CONNECTION + MOST_FOR_REPLIES, "{grown} bytes");
}

#[test]
fn unread_simple_replies_share_a_bounded_memory() {
    const CLIENTS: u64 = 120;
    let _turn = TURN.lock();
    let (disk, served) = Served::disk(4 * MIB);
    let data: Vec<u8> = (0..2 * MIB).map(|at| (at / 4096) as u8 | 1).collect();
    let mut other = Client::simple(served.path());
    other.store(0, &data);
    let counted = || served.handle.stats().buffer_bytes;
    let before = resident();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::simple(served.path())).collect();
    clients.iter_mut().for_each(|client| client.request(0, 0, 2, 0, 2 << 20));
    eventually("taking all buffers for replies", || {
        counted() == buffers(CLIENTS + 1) + MOST_FOR_REPLIES
    });
    thread::sleep(Duration::from_millis(500));
    let grown = resident().saturating_sub(before);
    println!("{} KiB for {CLIENTS} connections", grown >> 10);
    assert!(grown <= CLIENTS * MOST_A_CONNECTION + MOST_FOR_REPLIES, "{grown} bytes");

    // Others go on meanwhile, and an error still comes before the payload.
    other.request(0, 0, 3, 0, 2 << 20);
    assert_eq!(other.errno(3), 0);
    assert!(other.take(data.len()) == data);
    disk.damage(3 * MIB);
    other.request(0, 0, 4, 2 * MIB, 2 << 20);
    assert_eq!(other.errno(4), 5);

    // A client that reads at last gets everything.
    for client in &mut clients {
        assert_eq!(client.errno(2), 0);
        assert!(client.take(data.len()) == data);
    }
    assert_eq!(counted(), buffers(CLIENTS + 1) + MOST_FOR_REPLIES, "the buffers are kept");
}

/// A client that hangs up in the middle of a long reply leaves nothing behind that makes later replies cost more.
#[test]
fn a_reply_cut_short_does_not_make_later_ones_cost_more() {
    const CLIENTS: u64 = 400;
    let _turn = TURN.lock();
    let (_, served) = Served::disk(4 * MIB);
    let mut rude = Client::simple(served.path());
    rude.request(0, 0, 1, 0, 2 << 20);
    assert_eq!(rude.errno(1), 0);
    drop(rude);
    eventually("noticing", || served.handle.stats().connections_current == 0);
    let before = resident();
    let mut room = vec![0; 2 << 20];
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::simple(served.path())).collect();
    for group in clients.chunks_mut(7) {
        group.iter_mut().for_each(|client| client.request(0, 0, 2, 0, 2 << 20));
        // Each has its buffer now.
        group.iter_mut().for_each(|client| assert_eq!(client.errno(2), 0));
        group.iter_mut().for_each(|client| client.stream.read_exact(&mut room).unwrap());
    }
    let grown = resident().saturating_sub(before);
    println!("{} KiB for {CLIENTS} connections that have had a long reply", grown >> 10);
    // Hardly any of the buffers is touched.
    assert!(grown <= CLIENTS * MIB / 8 + MOST_FOR_REPLIES, "{grown} bytes");
    assert!(served.handle.stats().buffer_bytes <= buffers(CLIENTS) + MOST_FOR_REPLIES);
    drop(clients);
    eventually("leaving", || served.handle.stats().connections_current == 0);
    assert!(served.handle.stats().buffer_bytes <= MOST_FOR_REPLIES);
}
