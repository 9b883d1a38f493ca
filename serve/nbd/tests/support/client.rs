//! A client that sends and receives raw bytes, so that tests can also send what a correct client
//! would not.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::command::READ;

/// A reply of the transmission phase.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The header of a simple reply: error number and cookie.
    Simple { errno: u32, cookie: u64 },
    /// A chunk of a structured reply.
    Chunk { last: bool, kind: u16, cookie: u64, payload: Vec<u8> },
    /// A chunk with an extended header, which repeats the request's offset.
    Extended { last: bool, kind: u16, cookie: u64, offset: u64, payload: Vec<u8> },
}

/// A client's connection.
pub(crate) struct Client {
    /// The socket, for tests that send invalid bytes.
    pub stream: UnixStream,
    /// The cookie of the last request that did not name its own.
    cookie: u64,
}

impl Client {
    /// Connects, without reading the greeting.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, cookie: 1 << 32 }
    }

    /// Connects, reads the greeting and sends the client flags `flags`.
    pub(crate) fn greet(path: &Path, flags: u32) -> Self {
        let mut client = Self::connect(path);
        let greeting = client.take(18);
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        client.send(&flags.to_be_bytes());
        client
    }

    /// Enters the transmission phase with simple replies.
    pub(crate) fn simple(path: &Path) -> Self {
        let mut client = Self::greet(path, 3);
        client.go();
        client
    }

    /// Enters the transmission phase with structured replies and `base:allocation`.
    pub(crate) fn structured(path: &Path) -> Self {
        Self::with_chunks(path, 8)
    }

    /// Enters the transmission phase with extended headers and `base:allocation`.
    pub(crate) fn extended(path: &Path) -> Self {
        Self::with_chunks(path, 11)
    }

    fn with_chunks(path: &Path, option: u32) -> Self {
        let mut client = Self::greet(path, 3);
        assert_eq!(client.ask(option, &[]), [(1, vec![])]);
        let mut query = 0_u32.to_be_bytes().to_vec();
        query.extend_from_slice(&1_u32.to_be_bytes());
        query.extend_from_slice(&15_u32.to_be_bytes());
        query.extend_from_slice(b"base:allocation");
        assert_eq!(client.ask(10, &query).len(), 2);
        client.go();
        client
    }

    fn go(&mut self) {
        let replies = self.ask(7, &[0; 6]);
        assert_eq!(replies.last().unwrap().0, 1, "{replies:?}");
    }

    /// Sends an option and returns all replies to it: types and data.
    pub(crate) fn ask(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send_option(option, data);
        let mut replies = Vec::new();
        loop {
            let head = self.take(20);
            assert_eq!(head[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
            assert_eq!(head[8..12], option.to_be_bytes());
            let kind = word(&head[12..16]);
            let data = self.take(word(&head[16..20]) as usize);
            replies.push((kind, data));
            if kind == 1 || kind >> 31 == 1 {
                return replies;
            }
        }
    }

    /// Sends an option.
    pub(crate) fn send_option(&mut self, option: u32, data: &[u8]) {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend_from_slice(&option.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(data);
        self.send(&bytes);
    }

    /// Sends `bytes`.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server receives bytes");
    }

    /// Sends a compact request's header.
    pub(crate) fn request(&mut self, flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) {
        self.send(&head(flags, kind, cookie, offset, len));
    }

    /// Sends an extended request's header.
    pub(crate) fn request_extended(
        &mut self,
        flags: u16,
        kind: u16,
        cookie: u64,
        offset: u64,
        len: u64,
    ) {
        self.send(&extended_head(flags, kind, cookie, offset, len));
    }

    /// Sends a compact request without payload. Returns the error number of its reply.
    pub(crate) fn error_of(&mut self, flags: u16, kind: u16, offset: u64, len: u32) -> u32 {
        self.cookie += 1;
        self.request(flags, kind, self.cookie, offset, len);
        self.errno(self.cookie)
    }

    /// Sends an extended request without payload. Returns the error number of its reply.
    pub(crate) fn extended_error_of(
        &mut self,
        flags: u16,
        kind: u16,
        offset: u64,
        len: u64,
    ) -> u32 {
        self.cookie += 1;
        self.request_extended(flags, kind, self.cookie, offset, len);
        self.errno(self.cookie)
    }

    /// Sends a write with its payload.
    pub(crate) fn write(&mut self, cookie: u64, offset: u64, data: &[u8]) {
        let mut bytes = head(0, 1, cookie, offset, data.len() as u32);
        bytes.extend_from_slice(data);
        self.send(&bytes);
    }

    /// Writes `data`. Returns the error number of the reply.
    pub(crate) fn write_error(&mut self, offset: u64, data: &[u8]) -> u32 {
        self.cookie += 1;
        self.write(self.cookie, offset, data);
        self.errno(self.cookie)
    }

    /// Writes `data` and checks that the reply is success.
    pub(crate) fn store(&mut self, offset: u64, data: &[u8]) {
        assert_eq!(self.write_error(offset, data), 0);
    }

    /// Reads `len` bytes with a simple reply.
    pub(crate) fn load(&mut self, offset: u64, len: u32) -> Vec<u8> {
        assert_eq!(self.error_of(0, READ, offset, len), 0);
        self.take(len as usize)
    }

    /// Receives exactly `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("the server sends bytes");
        bytes
    }

    /// Receives the header of a simple reply, or a whole chunk.
    pub(crate) fn reply(&mut self) -> Reply {
        let magic = word(&self.take(4));
        match magic {
            0x6744_6698 => {
                let rest = self.take(12);
                Reply::Simple { errno: word(&rest[..4]), cookie: long(&rest[4..]) }
            }
            0x668e_33ef => {
                let rest = self.take(16);
                let payload = self.take(word(&rest[12..]) as usize);
                Reply::Chunk {
                    last: rest[1] == 1,
                    kind: u16::from_be_bytes([rest[2], rest[3]]),
                    cookie: long(&rest[4..12]),
                    payload,
                }
            }
            0x6e8a_278c => {
                let rest = self.take(28);
                let payload = self.take(long(&rest[20..]) as usize);
                Reply::Extended {
                    last: rest[1] == 1,
                    kind: u16::from_be_bytes([rest[2], rest[3]]),
                    cookie: long(&rest[4..12]),
                    offset: long(&rest[12..20]),
                    payload,
                }
            }
            other => panic!("reply magic {other:#x}"),
        }
    }

    /// Receives a reply without content, simple or structured, and returns its error number.
    pub(crate) fn errno(&mut self, cookie: u64) -> u32 {
        match self.reply() {
            Reply::Simple { errno, cookie: got } => {
                assert_eq!(got, cookie);
                errno
            }
            Reply::Chunk { last: true, kind, cookie: got, payload }
            | Reply::Extended { last: true, kind, cookie: got, payload, .. } => {
                assert_eq!(got, cookie);
                if kind == 0 { 0 } else { word(&payload[..4]) }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Returns whether the server closes the connection without sending more.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

/// Returns a compact request's header.
pub(crate) fn head(flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes
}

/// Returns an extended request's header.
pub(crate) fn extended_head(flags: u16, kind: u16, cookie: u64, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = 0x21e4_1c71_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    for number in [cookie, offset, len] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes
}

/// Returns the first four bytes as an integer.
pub(crate) fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// Returns the first eight bytes as an integer.
pub(crate) fn long(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}
