//! Edge cases of requests, with simple and structured replies.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::client::{Client, Reply, long, word};
use support::command::{
    CACHE, DF, FAST_ZERO, FLUSH, FUA, NO_HOLE, READ, REQ_ONE, STATUS, TRIM, ZEROES,
};
use support::disk::Disk;
use support::served::Served;

const MIB: u64 = 1 << 20;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8 ^ (at >> 12) as u8 ^ seed | 1).collect()
}

/// Reads with structured replies and assembles the chunks. Returns the data and the chunk types.
fn read_chunks(client: &mut Client, flags: u16, offset: u64, len: u32) -> (Vec<u8>, Vec<u16>) {
    client.request(flags, READ, 9, offset, len);
    let (mut data, mut kinds) = (vec![0xee; len as usize], Vec::new());
    loop {
        let reply = client.reply();
        let Reply::Chunk { last, kind, cookie: 9, payload } = reply else { panic!("{reply:?}") };
        kinds.push(kind);
        match kind {
            0 => assert!(payload.is_empty() && last),
            1 | 2 => {
                let (place, rest) = payload.split_at(8);
                let data = &mut data[(long(place) - offset) as usize..];
                match kind {
                    1 => data[..rest.len()].copy_from_slice(rest),
                    _ => data[..word(rest) as usize].fill(0),
                }
            }
            other => panic!("chunk {other}"),
        }
        if last {
            return (data, kinds);
        }
    }
}

#[test]
fn writes_read_back_at_any_offset_and_length() {
    let (_, served) = Served::disk(4 * MIB);
    let [mut simple, mut structured] = served.both();
    for (offset, len) in
        [(0, 1), (4095, 2), (511, 513), (4096, 4096), (100_001, 300_003), (4 * MIB - 7, 7)]
    {
        let data = pattern(len, offset as u8);
        simple.store(offset, &data);
        assert!(simple.load(offset, len as u32) == data, "{offset} {len}");
        assert!(read_chunks(&mut structured, 0, offset, len as u32).0 == data, "{offset} {len}");
        assert!(read_chunks(&mut structured, DF, offset, len as u32).0 == data, "{offset} {len}");
    }
}

#[test]
fn one_request_transfers_32_mib() {
    let (disk, served) = Served::disk(33 * MIB);
    let data = pattern(32 << 20, 3);
    let [mut simple, mut structured] = served.both();
    simple.store(12_345, &data);
    assert!(disk.content()[12_345..][..data.len()] == data);
    assert!(simple.load(12_345, 32 << 20) == data);
    // The device sees one read: a second one would mislead a cache that learns from reads.
    assert_eq!(disk.bytes_read.load(Ordering::Relaxed), 32 << 20);
    assert!(read_chunks(&mut structured, 0, 12_345, 32 << 20).0 == data);
    let (whole, kinds) = read_chunks(&mut structured, DF, 12_345, 32 << 20);
    assert!(whole == data);
    assert_eq!(kinds, [1, 0]);
}

#[test]
fn holes_are_sent_as_data_only_with_df() {
    let (_, served) = Served::disk(MIB);
    let mut client = Client::structured(served.path());
    client.store(8192, &[7; 4096]);
    assert_eq!(read_chunks(&mut client, 0, 0, 65536).1, [2, 1, 2]);
    let (data, kinds) = read_chunks(&mut client, DF, 0, 65536);
    assert_eq!(kinds, [1]);
    assert!(data[8192..12288] == [7; 4096] && data[..8192] == [0; 8192]);
}

#[test]
fn an_overlong_read_is_refused() {
    let (_, served) = Served::disk(64 * MIB);
    let [mut simple, mut structured] = served.both();
    for flags in [0, DF] {
        assert_eq!(structured.error_of(flags, READ, 0, (32 << 20) + 1), 75);
    }
    assert_eq!(simple.error_of(0, READ, 0, (32 << 20) + 1), 22);
}

#[test]
fn an_overlong_write_is_refused_and_skipped() {
    let (disk, served) = Served::disk(64 * MIB);
    for mut client in served.both() {
        assert_eq!(client.write_error(0, &vec![9; (32 << 20) + 1]), 22);
        client.store(0, &[]);
    }
    assert!(disk.content().iter().all(|&byte| byte == 0));
}

#[test]
fn ranges_past_the_end_get_protocol_errors() {
    let (_, served) = Served::disk(MIB);
    for mut client in served.both() {
        for (kind, errno) in [(READ, 22), (TRIM, 22), (CACHE, 22), (ZEROES, 28)] {
            for (offset, len) in [(MIB, 1), (MIB - 1, 2), (u64::MAX, 2), (0, MIB as u32 + 1)] {
                assert_eq!(client.error_of(0, kind, offset, len), errno, "command {kind}");
            }
        }
        assert_eq!(client.write_error(MIB - 1, &[1, 2]), 28);
        assert_eq!(client.write_error(u64::MAX - 1, &[1; 200_000]), 28);
    }
}

#[test]
fn empty_requests_succeed() {
    let (_, served) = Served::disk(MIB);
    for mut client in served.both() {
        for kind in [READ, TRIM, CACHE, ZEROES] {
            for offset in [0, 77, MIB] {
                assert_eq!(client.error_of(0, kind, offset, 0), 0, "command {kind}");
            }
        }
        client.store(MIB, &[]);
    }
}

#[test]
fn trims_and_zeroes_may_cover_the_whole_device() {
    let (disk, served) = Served::disk(40 * MIB);
    let mut client = Client::simple(served.path());
    for kind in [TRIM, ZEROES] {
        client.store(39 * MIB, &[7; 4096]);
        assert_eq!(client.error_of(0, kind, 0, 40 << 20), 0);
        assert!(disk.content().iter().all(|&byte| byte == 0));
    }
}

#[test]
fn zeroes_are_exact_with_and_without_holes() {
    let (disk, served) = Served::disk(MIB);
    let mut client = Client::structured(served.path());
    for flags in [0, NO_HOLE, NO_HOLE | FUA] {
        client.store(0, &[7; 16384]);
        assert_eq!(client.error_of(flags, ZEROES, 100, 9000), 0);
        let content = disk.content();
        assert!(
            content[..100] == [7; 100]
                && content[100..9100] == [0; 9000]
                && content[9100..16384] == [7; 7284]
        );
    }
}

#[test]
fn fast_zero_is_refused_unless_it_is_fast() {
    let (disk, served) = Served::disk(MIB);
    for mut client in served.both() {
        client.store(0, &[7; 16384]);
        for (flags, offset, len) in
            [(0, 100, 9000), (NO_HOLE, 0, 8192), (NO_HOLE | FUA, 0, 4096), (0, 4096, 5000)]
        {
            assert_eq!(
                client.error_of(FAST_ZERO | flags, ZEROES, offset, len),
                95,
                "{flags:#x}: {len} bytes at {offset}"
            );
        }
        assert!(disk.content()[..16384] == [7; 16384]);
        assert_eq!(client.error_of(FAST_ZERO | FUA, ZEROES, 4096, 8192), 0);
        assert!(disk.content()[4096..12288] == [0; 8192]);
    }
    assert_eq!(served.handle.stats().errors.not_supported, 8);
}

#[test]
fn a_read_only_export_offers_no_write_flags() {
    let (read_only, offered) = (1 << 1, |bits: u16| bits & (1 << 3 | 1 << 5 | 1 << 6 | 1 << 11));
    for (disk, is_read_only) in [(Disk::new(MIB), false), (Disk::read_only(MIB), true)] {
        let served = Served::unix(Arc::new(disk));
        let mut client = Client::greet(served.path(), 3);
        let replies = client.ask(7, &[0; 6]);
        let flags = u16::from_be_bytes(replies[0].1[10..12].try_into().unwrap());
        assert_eq!(flags & read_only != 0, is_read_only);
        assert_eq!(offered(flags), if is_read_only { 0 } else { offered(u16::MAX) });
    }
}

#[test]
fn flags_foreign_to_a_command_are_invalid() {
    let (_, served) = Served::disk(MIB);
    let [mut simple, mut structured] = served.both();
    for (kind, flags) in [
        (READ, NO_HOLE),
        (TRIM, FAST_ZERO),
        (CACHE, DF),
        (FLUSH, REQ_ONE),
        (ZEROES, DF),
        (STATUS, 1 << 9),
    ] {
        assert_eq!(structured.error_of(flags, kind, 0, 0), 22, "command {kind}");
    }
    assert_eq!(simple.error_of(DF, READ, 0, 512), 22);
    simple.send(&support::client::head(DF, 1, 3, 0, 5));
    simple.send(b"12345");
    assert_eq!(simple.errno(3), 22);
    assert_eq!(simple.error_of(FUA, READ, 0, 0), 0);
}

#[test]
fn unknown_commands_are_refused_and_skipped() {
    let (_, served) = Served::disk(MIB);
    for mut client in served.both() {
        for kind in [8, 9, 100, u16::MAX] {
            assert_eq!(client.error_of(0, kind, 0, 512), 22);
        }
        assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    }
    assert_eq!(served.handle.stats().errors.invalid, 8);
}

#[test]
fn flush_and_fua_reach_the_device() {
    let (disk, served) = Served::disk(MIB);
    let mut client = Client::simple(served.path());
    assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    assert_eq!(client.error_of(FUA, ZEROES, 0, 4096), 0);
    assert_eq!(disk.flushes.load(Ordering::Relaxed), 2);
    assert_eq!(client.error_of(0, FLUSH, 512, 0), 22);
}

#[test]
fn block_status_reports_data_zeros_and_holes() {
    let (_, served) = Served::disk(MIB);
    let mut client = Client::structured(served.path());
    client.store(4096, &[7; 4096]);
    client.store(8192, &[0; 4096]);
    let mut ask = |flags, offset, len| {
        client.request(flags, STATUS, 3, offset, len);
        let Reply::Chunk { last: true, kind: 5, cookie: 3, payload } = client.reply() else {
            panic!("no status")
        };
        payload[4..].chunks(8).map(|extent| (word(extent), word(&extent[4..]))).collect::<Vec<_>>()
    };
    assert_eq!(ask(0, 0, MIB as u32), [(4096, 3), (4096, 0), (4096, 2), (MIB as u32 - 12288, 3)]);
    assert_eq!(ask(REQ_ONE, 0, MIB as u32), [(4096, 3)]);
    assert_eq!(ask(0, 5000, 10), [(10, 0)]);
}

#[test]
fn block_status_needs_a_context_and_a_range() {
    let (_, served) = Served::disk(MIB);
    let [mut simple, mut structured] = served.both();
    assert_eq!(simple.error_of(0, STATUS, 0, 4096), 22);
    for (offset, len) in [(0, 0), (MIB, 1)] {
        assert_eq!(structured.error_of(0, STATUS, offset, len), 22);
    }
}

#[test]
fn a_read_only_device_refuses_changes() {
    let served = Served::unix(Arc::new(Disk::read_only(MIB)));
    for mut client in served.both() {
        assert_eq!(client.write_error(0, &[1; 5000]), 1);
        assert_eq!(client.write_error(MIB, &[1; 5000]), 1);
        for kind in [TRIM, ZEROES] {
            for flags in [0, FUA, NO_HOLE, FAST_ZERO, DF] {
                assert_eq!(
                    client.error_of(flags, kind, 0, 4096),
                    1,
                    "command {kind}, flags {flags:#x}"
                );
            }
        }
        assert_eq!(client.error_of(0, READ, 0, 0), 0);
    }
}

#[test]
fn a_damaged_page_fails_its_own_reads_only() {
    let (disk, served) = Served::disk(4 * MIB);
    let [mut simple, mut structured] = served.both();
    simple.store(0, &pattern(4 << 20, 5));
    disk.damage(3 * MIB + 5);
    for len in [4096, 1 << 20, 4 << 20] {
        assert_eq!(
            simple.error_of(0, READ, 4 * MIB - u64::from(len).max(MIB), len.max(1 << 20)),
            5,
            "length {len}"
        );
    }
    assert!(simple.load(0, 3 << 20) == pattern(4 << 20, 5)[..3 << 20]);
    for flags in [0, DF] {
        let kinds = failed_read(&mut structured, flags, 0, 4 << 20, 3 * MIB);
        assert_eq!(*kinds.last().unwrap(), 0x8002);
        let kinds = failed_read(&mut structured, flags, 3 * MIB + 100, 50, 3 * MIB + 100);
        assert_eq!(kinds, [0x8002]);
    }
    assert!(read_chunks(&mut structured, 0, 0, 3 << 20).0 == pattern(4 << 20, 5)[..3 << 20]);
    assert_eq!(served.handle.stats().errors.io, 7);
}

/// Reads a range that must fail at `at`. Returns the chunk types.
fn failed_read(client: &mut Client, flags: u16, offset: u64, len: u32, at: u64) -> Vec<u16> {
    client.request(flags, READ, 8, offset, len);
    let mut kinds = Vec::new();
    loop {
        let Reply::Chunk { last, kind, cookie: 8, payload } = client.reply() else {
            panic!("not a chunk")
        };
        kinds.push(kind);
        if last {
            assert_eq!(word(&payload), 5);
            assert_eq!(long(&payload[payload.len() - 8..]), at);
            return kinds;
        }
    }
}

#[test]
fn no_space_is_reported_and_serving_continues() {
    let (disk, served) = Served::disk(4 * MIB);
    let [mut simple, mut structured] = served.both();
    disk.limit(MIB);
    assert_eq!(simple.write_error(0, &vec![1; 2 << 20]), 28);
    structured.write(2, 3 * MIB, &[1; 4096]);
    let Reply::Chunk { last: true, kind: 0x8001, payload, .. } = structured.reply() else {
        panic!("not an error chunk")
    };
    assert_eq!(word(&payload), 28);
    assert!(String::from_utf8_lossy(&payload[6..]).contains("no memory is left"));
    assert_eq!(simple.load(3 * MIB, 4096), [0; 4096]);
    disk.limit(MIB);
    simple.store(3 * MIB, &[1; 4096]);
}

#[test]
fn many_requests_in_one_packet_are_answered_in_order() {
    let (_, served) = Served::disk(MIB);
    let mut client = Client::simple(served.path());
    let mut bytes = Vec::new();
    for cookie in 0..500 {
        bytes.extend_from_slice(&support::client::head(0, CACHE, cookie, 0, 1));
    }
    client.send(&bytes);
    for cookie in 0..500 {
        assert_eq!(client.errno(cookie), 0);
    }
}

#[test]
fn counters_match_the_requests() {
    let (_, served) = Served::disk(MIB);
    let mut client = Client::simple(served.path());
    client.store(0, &[1; 4096]);
    client.load(0, 8192);
    for (kind, len) in [(FLUSH, 0), (TRIM, 1), (CACHE, 1), (ZEROES, 1), (STATUS, 1), (99, 0)] {
        client.request(0, kind, 2, 0, len);
        client.errno(2);
    }
    client.request(0, 2, 3, 0, 0);
    assert!(client.is_closed());
    let stats = served.handle.stats();
    let requests = stats.requests;
    assert_eq!((requests.read, requests.write, requests.flush, requests.trim), (1, 1, 1, 1));
    assert_eq!((requests.cache, requests.write_zeroes, requests.block_status), (1, 1, 1));
    assert_eq!((requests.disconnect, requests.unknown), (1, 1));
    assert_eq!((stats.bytes_read, stats.bytes_written), (8192, 4096));
    assert_eq!(
        (stats.connections_total, stats.errors.invalid, stats.errors.broken_connections),
        (1, 2, 0)
    );
}

#[test]
fn reads_are_counted_in_every_form_of_reply() {
    let (_, served) = Served::disk(4 * MIB);
    let [mut simple, mut structured] = served.both();
    let lens = [4096, 1 << 20, 3 << 20];
    for len in lens {
        simple.load(0, len);
        read_chunks(&mut structured, 0, 0, len);
        read_chunks(&mut structured, DF, 0, len);
    }
    for mut client in [simple, structured] {
        client.request(0, 2, 3, 0, 0);
        assert!(client.is_closed());
    }
    assert_eq!(served.handle.stats().bytes_read, 3 * lens.map(u64::from).iter().sum::<u64>());
}
