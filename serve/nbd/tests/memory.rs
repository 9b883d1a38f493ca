//! What a connection costs, whatever its client does. Alone in its binary, since it looks at the whole process.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::client::{Client, head};
use support::disk::Disk;
use support::served::Served;

const MIB: u64 = 1 << 20;
/// Two buffers of 256 KiB, a long simple reply of up to 2 MiB, a stack, and what the allocator rounds up.
const MOST_A_CONNECTION: u64 = 3 * MIB;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn clients_in_the_middle_of_long_requests_cost_a_bounded_amount_each() {
    let disk = Arc::new(Disk::new(40 * MIB));
    let served = Served::unix(disk);
    // Every page of the disk is touched, so that only connections are measured below.
    let mut client = Client::simple(served.path());
    let payload = vec![7; 32 << 20];
    client.write(1, 0, &payload);
    assert_eq!(client.errno(1), 0);
    client.write(1, 8 * MIB, &payload);
    assert_eq!(client.errno(1), 0);
    let before = resident();
    let mut clients = Vec::new();
    for number in 0..48_u64 {
        let mut client =
            if number % 2 == 0 { Client::simple(served.path()) } else { Client::structured(served.path()) };
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
    let each = resident().saturating_sub(before) / clients.len() as u64;
    println!("{} KiB a connection", each >> 10);
    assert!(each <= MOST_A_CONNECTION, "{each} bytes a connection");
}
