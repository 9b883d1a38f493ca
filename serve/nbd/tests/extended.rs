//! Extended headers: requests and replies of 32 bytes, with 64-bit lengths.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::sync::Arc;

use support::client::{Client, Reply, extended_head, long, word};
use support::command::{
    CACHE, DF, DISC, FLUSH, PAYLOAD, READ, REQ_ONE, STATUS, TRIM, WRITE, ZEROES,
};
use support::disk::{Disk, Sparse};
use support::served::Served;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const EXTENDED_HEADERS: u32 = 11;
const EXT_HEADER_REQD: u32 = (1 << 31) + 10;

fn extended(size: u64) -> (Served, Client) {
    let served = Served::unix(Arc::new(Disk::new(size)));
    let client = Client::extended(served.path());
    (served, client)
}

fn write(client: &mut Client, offset: u64, data: &[u8]) -> u32 {
    let mut bytes = extended_head(PAYLOAD, WRITE, 1, offset, data.len() as u64);
    bytes.extend_from_slice(data);
    client.send(&bytes);
    client.errno(1)
}

/// Requests the block status and returns the lengths and states of the extents.
fn status(client: &mut Client, flags: u16, offset: u64, len: u64) -> Vec<(u64, u64)> {
    client.request_extended(flags, STATUS, 3, offset, len);
    let reply = client.reply();
    let Reply::Extended { last: true, kind: 6, cookie: 3, offset: at, payload } = reply else {
        panic!("{reply:?}")
    };
    assert_eq!((at, word(&payload)), (offset, 1));
    let extents: Vec<_> =
        payload[8..].chunks(16).map(|extent| (long(extent), long(&extent[8..]))).collect();
    assert_eq!(word(&payload[4..]) as usize, extents.len());
    extents
}

#[test]
fn writes_with_extended_headers_read_back() {
    let (_served, mut client) = extended(4 * MIB);
    for (offset, len, flags) in
        [(0, 1, 0), (4095, 8194, DF), (100_001, 300_003, 0), (200_000, 700_001, DF)]
    {
        let data: Vec<u8> = (0..len).map(|at| (at / 7) as u8 | 1).collect();
        assert_eq!(write(&mut client, offset, &data), 0);
        client.request_extended(flags, READ, 9, offset, len);
        let mut back = vec![0; len as usize];
        loop {
            let reply = client.reply();
            let Reply::Extended { last, kind, cookie: 9, offset: repeated, payload } = reply else {
                panic!("{reply:?}")
            };
            assert_eq!(repeated, offset);
            if kind == 1 {
                let at = (long(&payload) - offset) as usize;
                back[at..at + payload.len() - 8].copy_from_slice(&payload[8..]);
            }
            if last {
                break;
            }
        }
        assert!(back == data, "{len} bytes at {offset}");
    }
}

#[test]
fn one_request_covers_a_tebibyte() {
    let served = Served::unix(Arc::new(Sparse::new(TIB)));
    let mut client = Client::extended(served.path());
    assert_eq!(write(&mut client, 4096, &[7; 4096]), 0);
    assert_eq!(status(&mut client, 0, 0, TIB), [(4096, 3), (4096, 0), (TIB - 8192, 3)]);
    assert_eq!(status(&mut client, REQ_ONE, 0, TIB), [(4096, 3)]);
    assert_eq!(status(&mut client, REQ_ONE, 8192, TIB - 8192), [(TIB - 8192, 3)]);
    for kind in [TRIM, ZEROES, CACHE] {
        assert_eq!(client.extended_error_of(0, kind, 0, TIB), 0, "command {kind}");
    }
    assert_eq!(status(&mut client, 0, 0, MIB), [(MIB, 3)]);
}

#[test]
fn a_block_status_reply_is_bounded() {
    let (_served, mut client) = extended(64 * MIB);
    for page in (0..16_384).step_by(2) {
        assert_eq!(write(&mut client, page * 4096, &[1]), 0);
    }
    let extents = status(&mut client, 0, 0, 64 * MIB);
    assert_eq!(extents.len(), 8192);
    assert_eq!(extents.iter().map(|(len, _)| len).sum::<u64>(), 32 * MIB);
    assert_eq!(status(&mut client, 0, 32 * MIB, 32 * MIB).len(), 8192);
}

#[test]
fn lengths_past_the_end_are_refused() {
    let (served, mut client) = extended(MIB);
    let past =
        [(0, MIB + 1), (MIB, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 1), (0, 1 << 32)];
    for (kind, errno) in [(TRIM, 22), (CACHE, 22), (ZEROES, 28), (STATUS, 22)] {
        for (offset, len) in past {
            assert_eq!(
                client.extended_error_of(0, kind, offset, len),
                errno,
                "command {kind}: {len} bytes at {offset}"
            );
        }
    }
    for len in [(32 << 20) + 1, 1 << 32, u64::MAX] {
        assert_eq!(client.extended_error_of(0, READ, 0, len), 75);
    }
    assert_eq!(write(&mut client, MIB - 1, &[1, 2]), 28);
    assert_eq!(client.extended_error_of(0, FLUSH, 0, 0), 0);
    client.request_extended(0, DISC, 8, 0, 0);
    assert!(client.is_closed());
    assert_eq!(served.handle.stats().errors.broken_connections, 0);
}

#[test]
fn unexpected_payloads_are_refused_and_skipped() {
    let (_served, mut client) = extended(MIB);
    for kind in [READ, FLUSH, TRIM, CACHE, ZEROES, STATUS, 99] {
        let mut bytes = extended_head(PAYLOAD, kind, 1, 0, 5000);
        bytes.extend_from_slice(&[0x55; 5000]);
        client.send(&bytes);
        assert_eq!(client.errno(1), 22, "command {kind}");
    }
    // A write without the flag PAYLOAD_LEN has no payload.
    assert_eq!(client.extended_error_of(0, WRITE, 0, 512), 22);
    assert_eq!(write(&mut client, 0, &[]), 0);
    assert_eq!(write(&mut client, 0, &[1]), 0);
}

#[test]
fn an_overlong_payload_ends_the_connection() {
    let served = Served::unix(Arc::new(Disk::new(MIB)));
    for (kind, len) in
        [(WRITE, (32 << 20) + 1), (WRITE, u64::MAX), (TRIM, 1 << 40), (STATUS, u64::MAX)]
    {
        let mut client = Client::extended(served.path());
        client.request_extended(0, CACHE, 1, 0, 0);
        client.request_extended(PAYLOAD, kind, 2, 0, len);
        assert_eq!(client.errno(1), 0);
        assert!(client.is_closed());
    }
    let mut client = Client::extended(served.path());
    assert_eq!(write(&mut client, 0, &[1]), 0);
}

#[test]
fn compact_requests_end_an_extended_connection() {
    let (_served, mut client) = extended(MIB);
    client.send(&[support::client::head(0, CACHE, 1, 0, 0), vec![0; 4]].concat());
    assert!(client.is_closed());
}

#[test]
fn extended_headers_imply_chunks_and_are_final() {
    let served = Served::unix(Arc::new(Disk::new(MIB)));
    let mut client = Client::greet(served.path(), 3);
    assert_eq!(client.ask(EXTENDED_HEADERS, b"x").last().unwrap().0, (1 << 31) + 3);
    assert_eq!(client.ask(8, &[]), [(1, vec![])]);
    assert_eq!(client.ask(EXTENDED_HEADERS, &[]), [(1, vec![])]);
    assert_eq!(client.ask(8, &[]).last().unwrap().0, EXT_HEADER_REQD);
    let info = client.ask(7, &[0; 6]);
    let flags = u16::from_be_bytes(info[0].1[10..12].try_into().unwrap());
    assert!(flags & 1 << 7 != 0, "DF is offered");
    assert!(flags & 1 << 12 == 0, "payloads of block status are not");
    assert_eq!(client.extended_error_of(0, STATUS, 0, MIB), 22, "no context was selected");

    let mut old = Client::greet(served.path(), 3);
    assert_eq!(old.ask(EXTENDED_HEADERS, &[]), [(1, vec![])]);
    old.send_option(1, b"");
    assert!(old.is_closed());
}
