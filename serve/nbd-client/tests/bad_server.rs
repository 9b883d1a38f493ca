//! Servers that break the protocol, or leave in the middle of it, cause typed errors.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use nbd_client::{ClientError, Command, Connection, Request, Target};

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";
const ACK: u32 = 1;
const INFO: u32 = 3;
/// `NBD_INFO_EXPORT`: 1 MiB, with flags.
const EXPORT: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x21];
const READ: Request = Request { command: Command::Read, offset: 0, len: 4 };

/// Connects to a server that runs `script` and then closes the connection.
fn open(
    script: impl FnOnce(&mut TcpStream) + Send + 'static,
) -> Result<Connection<u8>, ClientError> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = Target::Tcp(listener.local_addr().expect("bound").to_string());
    thread::spawn(move || script(&mut listener.accept().expect("a client").0));
    Connection::open(&target)
}

/// Sends the greeting, receives the client's flags and `NBD_OPT_GO`, and sends `replies`.
fn greet(stream: &mut TcpStream, replies: &[u8]) {
    stream.write_all(GREETING).expect("the client reads");
    stream.read_exact(&mut [0; 4 + 22]).expect("the client sends its option");
    stream.write_all(replies).expect("the client reads");
}

fn option_reply(kind: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    let head = [&0x0003_e889_0455_65a9_u64.to_be_bytes()[..], &[0, 0, 0, 7], &kind.to_be_bytes()];
    [&head.concat(), &len.to_be_bytes()[..], data].concat()
}

fn accepted() -> Vec<u8> {
    [option_reply(INFO, &[0, 3, 9]), option_reply(INFO, EXPORT), option_reply(ACK, &[])].concat()
}

fn simple_reply(magic: u32, cookie: u64) -> Vec<u8> {
    [&magic.to_be_bytes()[..], &[0; 4], &cookie.to_be_bytes(), b"data"].concat()
}

/// Returns the error of a read whose reply is `reply`.
fn read_error(reply: Vec<u8>) -> ClientError {
    let connection = open(move |stream| {
        greet(stream, &accepted());
        stream.read_exact(&mut [0; 28]).expect("a request");
        stream.write_all(&reply).expect("the client reads");
    });
    let mut connection = connection.expect("the handshake is right");
    connection.queue(READ, 7);
    connection.send(|_, _| []).expect("the server reads");
    let mut receive = || loop {
        connection.receive()?;
        while let Some(reply) = connection.next_reply()? {
            assert_eq!((reply.request, reply.tag, reply.data), (READ, 7, &b"data"[..]));
        }
    };
    let Err(error): Result<(), ClientError> = receive() else {
        unreachable!("it ends by an error")
    };
    error
}

#[test]
fn malformed_handshakes_are_protocol_errors() {
    let violation = |opened: Result<Connection<u8>, ClientError>| match opened {
        Err(ClientError::Protocol { what }) => what,
        other => panic!("{other:?}"),
    };
    for (greeting, what) in [
        (b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0", "not a newstyle NBD server"),
        (b"NBDMAGICIHAVEOPT\0\x02", "the server does not speak fixed newstyle"),
    ] {
        let opened = open(|stream| stream.write_all(greeting).expect("the client reads"));
        assert_eq!(violation(opened), what);
    }
    for (replies, what) in [
        (vec![0; 20], "not a reply to the option sent"),
        (option_reply(INFO, &[0; 4097]), "an option reply is too long"),
        (option_reply(2, &[]), "an unknown option reply"),
        (option_reply(ACK, &[]), "no size of the export"),
        (
            [option_reply(INFO, &EXPORT[1..]), option_reply(ACK, &[])].concat(),
            "no size of the export",
        ),
    ] {
        assert_eq!(violation(open(move |stream| greet(stream, &replies))), what);
    }
}

#[test]
fn a_refusal_has_its_number_and_text() {
    let refused = open(|stream| greet(stream, &option_reply((1 << 31) + 6, b"no such export")));
    let refused = refused.expect_err("the server refuses").to_string();
    assert_eq!(refused, "the server refused the export (0x80000006): no such export");
}

#[test]
fn malformed_replies_are_protocol_errors() {
    let right = simple_reply(0x6744_6698, 0);
    for (reply, violation) in [
        (simple_reply(0x668e_33ef, 0), "not a simple reply"),
        (simple_reply(0x6744_6698, 1), "a reply without a request"),
        (simple_reply(0x6744_6698, u64::MAX), "a reply without a request"),
        ([&right[..], &right[..]].concat(), "a reply without a request"),
    ] {
        let error = read_error(reply);
        assert!(matches!(error, ClientError::Protocol { what } if what == violation), "{error:?}");
    }
}

#[test]
fn a_server_that_leaves_is_noticed_at_every_byte() {
    let greeted = [GREETING, &accepted()].concat();
    for len in 0..greeted.len() {
        let begun = greeted[..len].to_vec();
        let opened = open(move |stream| {
            let (greeting, replies) = begun.split_at(len.min(GREETING.len()));
            stream.write_all(greeting).expect("the client reads");
            if greeting == GREETING {
                stream.read_exact(&mut [0; 4 + 22]).expect("the client sends its option");
            }
            stream.write_all(replies).expect("the client reads");
        });
        assert!(matches!(opened, Err(ClientError::Closed)), "{len}: {opened:?}");
    }
    for len in 0..=20 {
        let error = read_error(simple_reply(0x6744_6698, 0)[..len].to_vec());
        assert!(matches!(error, ClientError::Closed), "{len}: {error:?}");
    }
}

#[test]
fn a_port_without_a_server_is_an_error() {
    let opened = Connection::<()>::open(&Target::Unix("/nonexistent/socket".into()));
    assert!(matches!(opened, Err(ClientError::Connect { .. })), "{opened:?}");
}
