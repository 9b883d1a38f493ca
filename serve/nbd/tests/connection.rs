//! Whole connections against a model, in memory: any mixture of requests, cut into packets anywhere.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use nbd::{ConnectionContext, Counters, Export, Inbound, StartDecision, serve_connection};
use proptest::prelude::*;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use support::client::{head, long, word};
use support::disk::Disk;

const SIZE: u64 = 40_000;

/// A request of a random connection.
#[derive(Clone, Debug)]
struct Ask {
    kind: u16,
    flags: u16,
    offset: u64,
    len: u32,
    fill: u8,
}

/// Gives the bytes out in packets of the sizes asked for, in turn.
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

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let offset = prop_oneof![4 => 0..SIZE, 1 => (SIZE - 5)..(SIZE + 5), 1 => any::<u64>()];
    let len = prop_oneof![4 => 0..9000_u32, 1 => Just(0), 1 => 30_000..41_000_u32];
    let kind = prop_oneof![8 => 0..8_u16, 1 => any::<u16>()]
        .prop_map(|kind| if kind == 2 { 0 } else { kind });
    let flags = prop_oneof![6 => Just(0), 2 => 0..32_u16, 1 => any::<u16>()];
    let ask = (kind, flags, offset, len, any::<u8>())
        .prop_map(|(kind, flags, offset, len, fill)| Ask { kind, flags, offset, len, fill });
    proptest::collection::vec(ask, 1..40)
}

fn said(asks: &[Ask], structured: bool) -> Vec<u8> {
    let mut bytes = 3_u32.to_be_bytes().to_vec();
    if structured {
        bytes.extend_from_slice(b"IHAVEOPT\0\0\0\x08\0\0\0\0");
        bytes.extend_from_slice(
            b"IHAVEOPT\0\0\0\x0a\0\0\0\x1b\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation",
        );
    }
    bytes.extend_from_slice(b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0");
    for (cookie, ask) in asks.iter().enumerate() {
        bytes.extend_from_slice(&head(ask.flags, ask.kind, cookie as u64, ask.offset, ask.len));
        if ask.kind == 1 {
            bytes.extend(std::iter::repeat_n(ask.fill, ask.len as usize));
        }
    }
    bytes.extend_from_slice(&head(0, 2, 0, 0, 0));
    bytes
}

fn is_whole_pages(ask: &Ask) -> bool {
    ask.offset.is_multiple_of(4096) && (ask.offset + u64::from(ask.len)).is_multiple_of(4096)
}

/// What a request must do: the error number, and the content for a read that succeeds.
fn expected(model: &mut [u8], ask: &Ask, structured: bool) -> u32 {
    let allowed = 1 | match ask.kind {
        0 if structured => 4,
        6 => 2 | 16,
        7 => 8,
        _ => 0,
    };
    let inside = ask.offset.checked_add(u64::from(ask.len)).is_some_and(|end| end <= SIZE);
    let range = ask.offset as usize..(ask.offset as usize).wrapping_add(ask.len as usize);
    match ask.kind {
        8.. => 22,
        _ if ask.flags & !allowed != 0 => 22,
        3 => {
            if ask.offset == 0 && ask.len == 0 {
                0
            } else {
                22
            }
        }
        7 if !structured || ask.len == 0 || !inside => 22,
        1 | 6 if !inside => 28,
        _ if !inside => 22,
        1 => {
            model[range].fill(ask.fill);
            0
        }
        // FAST_ZERO: only whole pages that may become holes are fast.
        6 if ask.flags & 16 != 0 && (ask.flags & 2 != 0 || !is_whole_pages(ask)) => 95,
        6 => {
            model[range].fill(0);
            0
        }
        4 => {
            let (first, last) =
                (ask.offset.div_ceil(4096) * 4096, (ask.offset + u64::from(ask.len)) / 4096 * 4096);
            if first < last {
                model[first as usize..last as usize].fill(0);
            }
            0
        }
        _ => 0,
    }
}

/// Takes replies off what the server said.
struct Heard<'a>(&'a [u8]);

impl<'a> Heard<'a> {
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

    /// The error number, and the content if it is a read.
    fn simple(&mut self, cookie: u64, ask: &Ask) -> (u32, Vec<u8>) {
        let head = self.take(16);
        assert_eq!((word(head), long(&head[8..])), (0x6744_6698, cookie));
        let errno = word(&head[4..]);
        let len = if ask.kind == 0 && errno == 0 { ask.len as usize } else { 0 };
        (errno, self.take(len).to_vec())
    }

    fn structured(&mut self, cookie: u64, ask: &Ask) -> (u32, Vec<u8>) {
        let (mut data, mut covered, mut contents) = (Vec::new(), 0, 0);
        if ask.kind == 0
            && ask.offset.checked_add(u64::from(ask.len)).is_some_and(|end| end <= SIZE)
        {
            data = vec![0xdd; ask.len as usize];
        }
        loop {
            let head = self.take(20);
            assert_eq!((word(head), long(&head[8..])), (0x668e_33ef, cookie));
            let payload = self.take(word(&head[16..]) as usize);
            match u16::from_be_bytes([head[6], head[7]]) {
                0 => assert!(payload.is_empty() && head[5] == 1),
                1 => {
                    let at = (long(payload) - ask.offset) as usize;
                    data[at..at + payload.len() - 8].copy_from_slice(&payload[8..]);
                    covered += payload.len() - 8;
                    contents += 1;
                }
                2 => {
                    let (at, len) =
                        ((long(payload) - ask.offset) as usize, word(&payload[8..]) as usize);
                    data[at..at + len].fill(0);
                    covered += len;
                    contents += 1;
                }
                5 => {
                    assert_eq!(word(payload), 1);
                    let told: u64 =
                        payload[4..].chunks(8).map(|extent| u64::from(word(extent))).sum();
                    assert!(told > 0 && told <= u64::from(ask.len));
                }
                0x8001 | 0x8002 => return (word(payload), Vec::new()),
                other => panic!("chunk {other}"),
            }
            if head[5] == 1 {
                assert_eq!(covered, if ask.kind == 0 { ask.len as usize } else { 0 });
                assert!(
                    ask.flags & 4 == 0 || contents <= 1,
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
    fn every_conversation_does_what_the_model_does(
        asks in asks(),
        structured in any::<bool>(),
        sizes in proptest::collection::vec(1..6000_usize, 1..10),
    ) {
        let disk = Arc::new(Disk::new(SIZE));
        let export = Export { name: String::new(), description: String::new(), device: disk.clone() };
        let counters = Counters::default();
        let context = ConnectionContext {
            export: &export,
            counters: &counters,
            accept_start: &|| StartDecision::Accept,
            handshake_timeout: Duration::from_secs(60),
            idle_timeout: None,
        };
        let said = said(&asks, structured);
        let mut heard = Vec::new();
        serve_connection(Packets { bytes: &said, sizes: &sizes, turn: 0 }, &mut heard, context).expect("a good connection");
        let mut heard = Heard(&heard);
        heard.skip_handshake();
        let mut model = vec![0; SIZE as usize];
        for (cookie, ask) in asks.iter().enumerate() {
            let errno = expected(&mut model, ask, structured);
            let (got, data) = match structured {
                true => heard.structured(cookie as u64, ask),
                false => heard.simple(cookie as u64, ask),
            };
            prop_assert_eq!(got, errno, "request {}: {:?}", cookie, ask);
            if ask.kind == 0 && errno == 0 {
                prop_assert!(data == model[ask.offset as usize..][..ask.len as usize], "request {}: {:?}", cookie, ask);
            }
        }
        prop_assert!(heard.0.is_empty());
        prop_assert!(disk.content() == model);
        let stats = counters.snapshot();
        prop_assert_eq!(stats.requests.disconnect, 1);
    }
}
