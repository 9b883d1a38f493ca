//! Clients that send garbage or nothing, and many clients at once.

use std::io::{Read, Write};
use std::time::Instant;

use super::*;

#[test]
fn garbage_is_closed_and_the_next_client_is_served() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "NBDMAGICIHAVEOPT\r\n\r\n"] {
        let mut stream = fixture.connect();
        stream.write_all(garbage.as_bytes()).expect("room in the socket");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    let mut half = fixture.connect();
    half.write_all(b"POST /v1/compact HTTP/1.1\r\ncontent-le").expect("room in the socket");
    drop(half);
    client::stat(&fixture.socket()).expect("it still answers");
}

#[test]
fn silent_clients_are_evicted_for_a_request() {
    let eviction_grace = Duration::from_millis(100);
    let limits = ClientLimits {
        connections: 2,
        eviction_grace,
        header_timeout: Duration::from_secs(60),
        ..CLIENT_LIMITS
    };
    let fixture = Fixture::start(limits);
    let silent: Vec<_> = (0..8).map(|_| fixture.connect()).collect();
    let start = Instant::now();
    client::stat(&fixture.socket()).expect("it answers after evictions");
    // Eight silent clients, two slots: several grace times pass, but no header timeout.
    assert!(
        (Duration::from_millis(250)..Duration::from_secs(15)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    drop(silent);
}

/// Half send nothing, half announce a body that never comes.
#[test]
fn two_hundred_idle_clients_do_not_block_stat() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    let idle: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = fixture.connect();
            if number % 2 == 0 {
                let request = "POST /v1/compact HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n";
                stream.write_all(request.as_bytes()).expect("room in the socket");
            }
            stream
        })
        .collect();
    let start = Instant::now();
    client::stat(&fixture.socket()).expect("it answers");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(idle);
}

#[test]
fn simultaneous_clients_are_all_answered() {
    let limits = ClientLimits { connections: 2, ..CLIENT_LIMITS };
    let fixture = Fixture::start(limits);
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| client::stat(&fixture.socket()).expect("it answers"));
        }
    });
}
