//! The workspace's own client, `nbd_client`, against this server. They share no code.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::sync::Arc;

use nbd::ServerConfig;
use nbd_client::{ClientError, Command, Connection, Request, Target};

use support::disk::{Disk, PAGE};
use support::served::Served;

const SIZE: u64 = 4 << 20;

fn connect(served: &Served) -> Connection<u64> {
    Connection::open(&served.uri.parse::<Target>().expect("the server's URI")).expect("a server")
}

/// Returns a page whose bytes depend on `seed`.
fn page(seed: u64) -> Vec<u8> {
    (0..PAGE).map(|at| (at / 7 + seed * 3 + 1) as u8).collect()
}

/// Sends all queued requests, each write with the page of its tag, and receives all replies: tags
/// and data.
fn answers(connection: &mut Connection<u64>) -> Result<Vec<(u64, Vec<u8>)>, ClientError> {
    let pages: Vec<Vec<u8>> = (0..256).map(page).collect();
    // Two pieces, to test that a payload may have several.
    let pieces = |tag: u64| <[&[u8]; 2]>::from(pages[tag as usize].split_at(1000));
    connection.send(|_, &tag| pieces(tag))?;
    let mut answers = Vec::new();
    while connection.depth() > 0 {
        connection.receive()?;
        while let Some(reply) = connection.next_reply()? {
            answers.push((reply.tag, reply.data.to_vec()));
        }
    }
    Ok(answers)
}

fn queue(connection: &mut Connection<u64>, command: Command, page: u64, pages: u64) {
    let request = Request { command, offset: page * PAGE, len: (pages * PAGE) as u32 };
    connection.queue(request, page);
}

fn read_whole(connection: &mut Connection<u64>) -> Vec<u8> {
    queue(connection, Command::Read, 0, SIZE / PAGE);
    answers(connection).expect("all pages are readable").remove(0).1
}

#[test]
fn many_requests_in_flight_are_answered() {
    let disk = Arc::new(Disk::new(SIZE));
    for served in [Served::unix(disk.clone()), Served::tcp(disk.clone())] {
        let mut connection = connect(&served);
        assert_eq!(connection.export().size, SIZE);
        assert!(connection.export().supports_trim());
        for at in 0..256 {
            queue(&mut connection, Command::Write, at, 1);
        }
        assert_eq!((connection.depth(), connection.in_flight().count()), (256, 256));
        assert_eq!(answers(&mut connection).expect("256 writes").len(), 256);
        (0..256).for_each(|at| queue(&mut connection, Command::Read, at, 1));
        for (tag, data) in answers(&mut connection).expect("256 reads") {
            assert!(data == page(tag), "page {tag}");
        }
        // One reply is longer than the receive buffer.
        queue(&mut connection, Command::Trim, 8, 3);
        answers(&mut connection).expect("a trim");
        let content = read_whole(&mut connection);
        assert!(content == disk.content());
        assert!(content[8 * PAGE as usize..11 * PAGE as usize].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_failed_request_leaves_the_connection_usable() {
    let (disk, served) = Served::disk(SIZE);
    let mut connection = connect(&served);
    let failure = |connection: &mut Connection<u64>| match answers(connection) {
        Err(ClientError::Failed { request, source }) => (request.offset, source.raw_os_error()),
        other => panic!("{other:?}"),
    };
    disk.limit(0);
    queue(&mut connection, Command::Write, 2, 1);
    assert_eq!(failure(&mut connection), (2 * PAGE, Some(28)), "ENOSPC");
    disk.damage(5 * PAGE);
    queue(&mut connection, Command::Read, 5, 1);
    assert_eq!(failure(&mut connection), (5 * PAGE, Some(5)), "EIO");
    queue(&mut connection, Command::Read, 6, 1);
    assert_eq!(answers(&mut connection).expect("a good page"), [(6, vec![0; PAGE as usize])]);
}

#[test]
fn a_refused_export_is_an_error_with_its_reason() {
    let config = ServerConfig { max_connections: 1, ..ServerConfig::default() };
    let served = Served::with(Arc::new(Disk::new(SIZE)), config);
    let first = connect(&served);
    let target = Target::Unix(served.path().to_owned());
    let refused = Connection::<()>::open(&target).expect_err("one client is the limit");
    assert!(
        matches!(&refused, ClientError::Refused { reply, text } if reply >> 31 == 1 && !text.is_empty()),
        "{refused:?}"
    );
    drop(first);
}

#[test]
fn a_server_that_ends_closes_the_connection() {
    let (_, mut served) = Served::disk(SIZE);
    let mut connection = connect(&served);
    served.stop();
    queue(&mut connection, Command::Read, 0, 1);
    let ended = answers(&mut connection).expect_err("the server is gone");
    assert!(matches!(ended, ClientError::Closed | ClientError::Io(_)), "{ended:?}");
}
