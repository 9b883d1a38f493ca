//! Whole connections in memory, compared with a model: random requests, split into packets at
//! random positions.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use nbd::{ConnectionContext, Counters, Export, Inbound, StartDecision, serve_connection};
use proptest::prelude::*;

use support::client::{head, long, word};
use support::disk::Disk;

const SIZE: u64 = 40_000;

/// A request of a random connection.
#[derive(Clone, Debug)]
struct Request {
    kind: u16,
    flags: u16,
    offset: u64,
    len: u32,
    fill: u8,
}

/// A reader that returns the bytes in packets of the given sizes, in turn.
struct Packets<'a> {
    bytes: &'a [u8],
    sizes: &'a [usize],
    turn: usize,
}

impl Read for Packets<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()].min(buf.len()).min(self.bytes.len());
        self.turn += 1;
        buf[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

impl Inbound for Packets<'_> {}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let offset = prop_oneof![4 => 0..SIZE, 1 => (SIZE - 5)..(SIZE + 5), 1 => any::<u64>()];
    let len = prop_oneof![4 => 0..9000_u32, 1 => Just(0), 1 => 30_000..41_000_u32];
    let kind = prop_oneof![8 => 0..8_u16, 1 => any::<u16>()]
        .prop_map(|kind| if kind == 2 { 0 } else { kind });
    let flags = prop_oneof![6 => Just(0), 2 => 0..32_u16, 1 => any::<u16>()];
    let request = (kind, flags, offset, len, any::<u8>())
        .prop_map(|(kind, flags, offset, len, fill)| Request { kind, flags, offset, len, fill });
    proptest::collection::vec(request, 1..40)
}

/// Returns all bytes that the client sends: the handshake, the requests and `DISC`.
fn client_bytes(requests: &[Request], structured: bool) -> Vec<u8> {
    let mut bytes = 3_u32.to_be_bytes().to_vec();
    if structured {
        bytes.extend_from_slice(b"IHAVEOPT\0\0\0\x08\0\0\0\0");
        bytes.extend_from_slice(
            b"IHAVEOPT\0\0\0\x0a\0\0\0\x1b\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation",
        );
    }
    bytes.extend_from_slice(b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0");
    for (cookie, request) in requests.iter().enumerate() {
        bytes.extend_from_slice(&head(
            request.flags,
            request.kind,
            cookie as u64,
            request.offset,
            request.len,
        ));
        if request.kind == 1 {
            bytes.extend(std::iter::repeat_n(request.fill, request.len as usize));
        }
    }
    bytes.extend_from_slice(&head(0, 2, 0, 0, 0));
    bytes
}

fn is_whole_pages(request: &Request) -> bool {
    request.offset.is_multiple_of(4096)
        && (request.offset + u64::from(request.len)).is_multiple_of(4096)
}

/// Applies a request to the model and returns the expected error number.
fn expected(model: &mut [u8], request: &Request, structured: bool) -> u32 {
    let allowed = 1 | match request.kind {
        0 if structured => 4,
        6 => 2 | 16,
        7 => 8,
        _ => 0,
    };
    let inside = request.offset.checked_add(u64::from(request.len)).is_some_and(|end| end <= SIZE);
    let range =
        request.offset as usize..(request.offset as usize).wrapping_add(request.len as usize);
    match request.kind {
        8.. => 22,
        _ if request.flags & !allowed != 0 => 22,
        3 => {
            if request.offset == 0 && request.len == 0 {
                0
            } else {
                22
            }
        }
        7 if !structured || request.len == 0 || !inside => 22,
        1 | 6 if !inside => 28,
        _ if !inside => 22,
        1 => {
            model[range].fill(request.fill);
            0
        }
        // FAST_ZERO succeeds only for whole pages that may become holes.
        6 if request.flags & 16 != 0 && (request.flags & 2 != 0 || !is_whole_pages(request)) => 95,
        6 => {
            model[range].fill(0);
            0
        }
        4 => {
            let (first, last) = (
                request.offset.div_ceil(4096) * 4096,
                (request.offset + u64::from(request.len)) / 4096 * 4096,
            );
            if first < last {
                model[first as usize..last as usize].fill(0);
            }
            0
        }
        _ => 0,
    }
}

/// A parser of the server's output.
struct Replies<'a>(&'a [u8]);

impl<'a> Replies<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    fn skip_handshake(&mut self) {
        self.take(18);
        loop {
            let head = self.take(20);
            self.take(word(&head[16..]) as usize);
            if word(&head[8..]) == 7 && word(&head[12..]) == 1 {
                return;
            }
        }
    }

    /// Takes a simple reply. Returns its error number and, for a read, the data.
    fn simple(&mut self, cookie: u64, request: &Request) -> (u32, Vec<u8>) {
        let head = self.take(16);
        assert_eq!((word(head), long(&head[8..])), (0x6744_6698, cookie));
        let errno = word(&head[4..]);
        let len = if request.kind == 0 && errno == 0 { request.len as usize } else { 0 };
        (errno, self.take(len).to_vec())
    }

    /// Takes a structured reply. Returns its error number and, for a read, the data.
    fn structured(&mut self, cookie: u64, request: &Request) -> (u32, Vec<u8>) {
        let (mut data, mut covered, mut contents) = (Vec::new(), 0, 0);
        if request.kind == 0
            && request.offset.checked_add(u64::from(request.len)).is_some_and(|end| end <= SIZE)
        {
            data = vec![0xdd; request.len as usize];
        }
        loop {
            let head = self.take(20);
            assert_eq!((word(head), long(&head[8..])), (0x668e_33ef, cookie));
            let payload = self.take(word(&head[16..]) as usize);
            match u16::from_be_bytes([head[6], head[7]]) {
                0 => assert!(payload.is_empty() && head[5] == 1),
                1 => {
                    let at = (long(payload) - request.offset) as usize;
                    data[at..at + payload.len() - 8].copy_from_slice(&payload[8..]);
                    covered += payload.len() - 8;
                    contents += 1;
                }
                2 => {
                    let (at, len) =
                        ((long(payload) - request.offset) as usize, word(&payload[8..]) as usize);
                    data[at..at + len].fill(0);
                    covered += len;
                    contents += 1;
                }
                5 => {
                    assert_eq!(word(payload), 1);
                    let total: u64 =
                        payload[4..].chunks(8).map(|extent| u64::from(word(extent))).sum();
                    assert!(total > 0 && total <= u64::from(request.len));
                }
                0x8001 | 0x8002 => return (word(payload), Vec::new()),
                other => panic!("chunk {other}"),
            }
            if head[5] == 1 {
                assert_eq!(covered, if request.kind == 0 { request.len as usize } else { 0 });
                assert!(
                    request.flags & 4 == 0 || contents <= 1,
                    "a fragmented reply to a request with DF"
                );
                return (0, data);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_connection_matches_the_model(
        requests in requests(),
        structured in any::<bool>(),
        sizes in proptest::collection::vec(1..6000_usize, 1..10),
    ) {
        let disk = Arc::new(Disk::new(SIZE));
        let export =
            Export { name: String::new(), description: String::new(), device: disk.clone() };
        let counters = Counters::default();
        let context = ConnectionContext {
            export: &export,
            counters: &counters,
            accept_start: &|| StartDecision::Accept,
            handshake_timeout: Duration::from_secs(60),
            idle_timeout: None,
        };
        let input = client_bytes(&requests, structured);
        let mut output = Vec::new();
        let packets = Packets { bytes: &input, sizes: &sizes, turn: 0 };
        serve_connection(packets, &mut output, context).expect("an orderly end");
        let mut replies = Replies(&output);
        replies.skip_handshake();
        let mut model = vec![0; SIZE as usize];
        for (cookie, request) in requests.iter().enumerate() {
            let errno = expected(&mut model, request, structured);
            let (got, data) = match structured {
                true => replies.structured(cookie as u64, request),
                false => replies.simple(cookie as u64, request),
            };
            prop_assert_eq!(got, errno, "request {}: {:?}", cookie, request);
            if request.kind == 0 && errno == 0 {
                let range = request.offset as usize..request.offset as usize + request.len as usize;
                prop_assert!(data == model[range], "request {}: {:?}", cookie, request);
            }
        }
        prop_assert!(replies.0.is_empty());
        prop_assert!(disk.content() == model);
        let stats = counters.snapshot();
        prop_assert_eq!(stats.requests.disconnect, 1);
    }
}
