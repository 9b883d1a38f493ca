//! Fuzzes the whole NBD server except its sockets: option haggling, command parsing, execution
//! and replies.
//!
//! The first byte of the input chooses the state in which the connection begins and the size of
//! the packets; the rest is what the client sends. The target checks:
//!
//! * There is no panic.
//! * The output is no longer than the requests ask for.
//! * The packet size changes neither the replies nor the device.
//! * With structured replies or extended headers, the output is a sequence of well-formed chunks,
//!   and each repeats bytes of a request.
#![no_main]

#[expect(dead_code, reason = "the target uses a part of the shared support")]
#[path = "../../serve/nbd/tests/support/disk.rs"]
mod disk;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nbd::{ConnectionContext, Counters, Export, Inbound, StartDecision, serve_connection};

use disk::Disk;

/// Size of the device. Not a multiple of the page size, so that the last page is short. Units:
/// bytes.
const SIZE: u64 = 70_001;
/// Longest output for 16 bytes of input: a read of the whole device, or an option's replies.
/// Units: bytes.
const MAX_REPLY_LEN: usize = SIZE as usize + 8192;
/// Offset of an unreadable page. Units: bytes.
const DAMAGED: u64 = 5 * disk::PAGE;

const SIMPLE: &[u8] = b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0";
const STRUCTURED: &[u8] = b"\0\0\0\x03IHAVEOPT\0\0\0\x08\0\0\0\0\
    IHAVEOPT\0\0\0\x0a\0\0\0\x1b\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation\
    IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0";
const EXTENDED: &[u8] = b"\0\0\0\x03IHAVEOPT\0\0\0\x0b\0\0\0\0\
    IHAVEOPT\0\0\0\x0a\0\0\0\x1b\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation\
    IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0";
/// Length of the server's output for `STRUCTURED` and `EXTENDED`: greeting, ack, context, ack,
/// export, ack. Units: bytes.
const HANDSHAKE_REPLY_LEN: usize = 18 + 20 + (20 + 4 + 15) + 20 + (20 + 12) + 20;

/// A reader that returns the client's bytes in packets of `max_len` bytes.
struct Packets<'a> {
    bytes: &'a [u8],
    max_len: usize,
}

impl Read for Packets<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let max_len = self.max_len.min(buf.len());
        self.bytes.read(&mut buf[..max_len])
    }
}

impl Inbound for Packets<'_> {}

/// The server's output, which must not exceed `max_len` bytes.
struct Replies {
    output_bytes: Vec<u8>,
    max_len: usize,
}

impl Write for Replies {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        assert!(self.output_bytes.len() + buf.len() <= self.max_len, "more output than requested");
        self.output_bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves a connection on a new device. Returns the output and the device's content.
fn run_session(input: &[u8], packet: usize, accept_start: StartDecision) -> (Vec<u8>, Vec<u8>) {
    let device = Arc::new(Disk::new(SIZE));
    device.damage(DAMAGED);
    device.limit(2 * SIZE);
    let export = Export { name: "disk".into(), description: "text".into(), device: device.clone() };
    let counters = Counters::default();
    let context = ConnectionContext {
        export: &export,
        counters: &counters,
        accept_start: &|| accept_start,
        handshake_timeout: Duration::from_secs(3600),
        idle_timeout: None,
    };
    let mut replies =
        Replies { output_bytes: Vec::new(), max_len: 200 + (input.len() / 16 + 1) * MAX_REPLY_LEN };
    // Any result is valid: the client decides how the connection ends.
    let _ = serve_connection(Packets { bytes: input, max_len: packet }, &mut replies, context);
    (replies.output_bytes, device.content())
}

/// The form of a chunk's header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeaderFormat {
    Structured,
    Extended,
}

/// Checks that the output is a sequence of well-formed chunks that repeat bytes of the input.
fn check_chunks(format: HeaderFormat, mut output_bytes: &[u8], input: &[u8]) {
    let (magic, head_len) = match format {
        HeaderFormat::Structured => (0x668e_33ef_u32, 20),
        HeaderFormat::Extended => (0x6e8a_278c, 32),
    };
    while !output_bytes.is_empty() {
        // Header: magic, flags, type, cookie, offset (extended headers only), length.
        let (head, rest) = output_bytes.split_at_checked(head_len).expect("a whole chunk header");
        assert_eq!(head[..4], magic.to_be_bytes(), "chunk magic");
        assert!(head[4] == 0 && head[5] <= 1, "chunk flags");
        let kind = u16::from_be_bytes([head[6], head[7]]);
        let last = |bytes: usize| {
            head[head_len - bytes..].iter().fold(0, |len, &byte| len << 8 | usize::from(byte))
        };
        let len = last(if format == HeaderFormat::Extended { 8 } else { 4 });
        let repeated = if format == HeaderFormat::Extended { 8..24 } else { 8..16 };
        // Each type has its payload length.
        let (payload, rest) = rest.split_at_checked(len).expect("a whole payload");
        match kind {
            0 => assert!(len == 0 && head[5] == 1),
            1 => assert!(len > 8),
            2 => assert_eq!(len, 12),
            5 if format == HeaderFormat::Structured => assert!(len >= 12 && len % 8 == 4),
            6 if format == HeaderFormat::Extended => assert!(len >= 24 && len % 16 == 8),
            0x8001 => {
                assert_eq!(len, 6 + usize::from(u16::from_be_bytes([payload[4], payload[5]])))
            }
            0x8002 => {
                assert_eq!(len, 14 + usize::from(u16::from_be_bytes([payload[4], payload[5]])))
            }
            other => panic!("chunk kind {other}"),
        }
        // The cookie, and the offset of an extended chunk, are those of a request.
        let wanted = &head[repeated];
        assert!(
            input.windows(wanted.len()).any(|sent| sent == wanted),
            "a cookie and an offset that the client did not send"
        );
        output_bytes = rest;
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, words)) = data.split_first() else { return };
    let (prefix, accept_start) = match choice & 7 {
        0 => (&[][..], StartDecision::Accept),
        1 => (SIMPLE, StartDecision::Accept),
        2 => (STRUCTURED, StartDecision::Accept),
        4.. => (EXTENDED, StartDecision::Accept),
        _ => (&[][..], StartDecision::Reject),
    };
    // The same bytes in one packet and in small ones.
    let input = [prefix, words].concat();
    let whole = run_session(&input, usize::MAX, accept_start);
    let packets = run_session(&input, usize::from(choice >> 3) * 9 + 1, accept_start);
    assert!(whole == packets, "the packet size made a difference");
    match choice & 7 {
        2 => check_chunks(HeaderFormat::Structured, &whole.0[HANDSHAKE_REPLY_LEN..], words),
        4.. => check_chunks(HeaderFormat::Extended, &whole.0[HANDSHAKE_REPLY_LEN..], words),
        _ => {}
    }
});
