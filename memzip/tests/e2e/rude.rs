//! Tests with clients that misbehave or vanish; the next client must not be affected.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use crate::content::{self, MIB};
use crate::server::Server;
use crate::tool::{self, need};

/// Connects a client that requests much more than its socket holds and reads no reply, so its
/// request stays in flight.
pub(crate) fn stalled_client(server: &Server) -> UnixStream {
    let mut client = UnixStream::connect(server.socket()).expect("the server listens");
    client.read_exact(&mut [0; 18]).expect("a greeting");
    // Client flags, then NBD_OPT_EXPORT_NAME with an empty name: the transmission phase follows.
    client
        .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0")
        .expect("the server reads the handshake");
    client.read_exact(&mut [0; 10]).expect("size and flags");
    let mut read = 0x2560_9513_u32.to_be_bytes().to_vec();
    read.extend([0; 20]);
    read.extend((32_u32 << 20).to_be_bytes());
    client.write_all(&read).expect("the server reads the request");
    // The reply has begun, so the request is in flight.
    client.read_exact(&mut [0; 16]).expect("the reply begins");
    client
}

/// Panics unless a well-behaved client can write and read the disk.
fn assert_serves(server: &mut Server) {
    let commands = ["-c", "write -P 0x42 1M 64k", "-c", "read -P 0x42 1M 64k"];
    tool::succeed(tool::command("qemu-io").args(["-f", "raw"]).args(commands).arg(server.uri()));
    server.assert_alive();
}

#[test]
fn a_killed_writer_leaves_old_or_new_pages_only() {
    need!("nbdcopy", "qemu-io");
    let mut server = Server::start("256M", &["--algorithm", "zstd:9"]);
    let old = content::programs(256 * MIB);
    let mut new = old.clone();
    new.iter_mut().for_each(|byte| *byte = !*byte);
    let [old_file, new_file] = [("old", &old), ("new", &new)]
        .map(|(name, bytes)| content::save(server.folder(), name, bytes));
    tool::succeed(tool::command("nbdcopy").arg(&old_file).arg(server.uri()));

    let mut client = Command::new("nbdcopy")
        .arg(&new_file)
        .arg(server.uri())
        .spawn()
        .expect("nbdcopy was found above");
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        client.try_wait().expect("a child process").is_none(),
        "nbdcopy ended before it was killed"
    );
    client.kill().expect("a child process");
    client.wait().expect("a child process");

    let back = server.folder().join("back.img");
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    let back = std::fs::read(back).expect("the copy");
    let pages = back.chunks(4096).zip(old.chunks(4096)).zip(new.chunks(4096));
    let torn = pages.enumerate().find(|(_, ((found, old), new))| found != old && found != new);
    assert!(torn.is_none(), "page {:?} is neither old nor new", torn.map(|(page, _)| page));
    assert_serves(&mut server);
}

#[test]
fn garbage_handshakes_close_that_connection_only() {
    need!("qemu-io");
    let mut server = Server::start("4M", &[]);
    for garbage in [
        content::noise(64),
        content::noise(1 << 20),
        vec![0; 4096],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut client = UnixStream::connect(server.socket()).expect("the server listens");
        client.set_read_timeout(Some(Duration::from_secs(30))).expect("a read timeout");
        // The server may close the connection while the client still sends.
        _ = client.write_all(&garbage);
        _ = client.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let ended = client.read_to_end(&mut answer);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "the server hangs on garbage"
        );
    }
    assert_serves(&mut server);
}

#[test]
fn incomplete_requests_end_with_their_client() {
    need!("qemu-io");
    let mut server = Server::start("4M", &[]);
    // Client flags, then NBD_OPT_EXPORT_NAME with an empty name: the transmission phase follows.
    let mut handshake = vec![0, 0, 0, 3];
    handshake.extend(b"IHAVEOPT\0\0\0\x01\0\0\0\0");
    // A write of 4096 bytes at 0, of which only ten bytes follow.
    let mut write = 0x2560_9513_u32.to_be_bytes().to_vec();
    write.extend([0, 0, 0, 1]);
    write.extend([0; 16]);
    write.extend(4096_u32.to_be_bytes());
    let half_header = &write[..15];
    let half_payload = [write.as_slice(), b"ten bytes!"].concat();
    for rest in [half_header, &half_payload] {
        let mut client = UnixStream::connect(server.socket()).expect("the server listens");
        let mut greeting = [0; 18];
        client.read_exact(&mut greeting).expect("a greeting");
        client.write_all(&handshake).expect("the server reads the handshake");
        client.write_all(rest).expect("the server reads the request");
    }
    assert_serves(&mut server);
    tool::succeed(
        tool::command("qemu-io").args(["-f", "raw", "-c", "read -P 0 0 4096"]).arg(server.uri()),
    );
}

#[test]
fn an_unknown_command_keeps_the_connection() {
    let server = Server::start("4M", &[]);
    let mut client = UnixStream::connect(server.socket()).expect("the server listens");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a read timeout");
    let mut greeting = [0; 18];
    client.read_exact(&mut greeting).expect("a greeting");
    let mut hello = vec![0, 0, 0, 3];
    hello.extend(b"IHAVEOPT\0\0\0\x01\0\0\0\0");
    client.write_all(&hello).expect("the server reads the handshake");
    let mut size_and_flags = [0; 10];
    client.read_exact(&mut size_and_flags).expect("the export's size and flags");
    assert_eq!(size_and_flags[..8], (4_u64 << 20).to_be_bytes());

    for (command, cookie, expected) in [(999_u16, 7_u64, 22_u32), (3, 8, 0)] {
        let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
        request.extend([0, 0]);
        request.extend(command.to_be_bytes());
        request.extend(cookie.to_be_bytes());
        request.extend([0; 12]);
        client.write_all(&request).expect("the server reads the request");
        let mut reply = [0; 16];
        client.read_exact(&mut reply).expect("an answer");
        assert_eq!(reply[..4], 0x6744_6698_u32.to_be_bytes());
        assert_eq!(reply[4..8], expected.to_be_bytes(), "command {command}");
        assert_eq!(reply[8..], cookie.to_be_bytes());
    }
}

#[test]
fn an_unknown_option_does_not_end_the_handshake() {
    let server = Server::start("4M", &[]);
    let mut client = UnixStream::connect(server.socket()).expect("the server listens");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a read timeout");
    let mut greeting = [0; 18];
    client.read_exact(&mut greeting).expect("a greeting");
    client.write_all(&[0, 0, 0, 3]).expect("the server reads the flags");
    // An unknown option with data; then NBD_OPT_ABORT, which is acknowledged only if the server has
    // consumed that data.
    for (option, data, expected) in
        [(4711_u32, &b"what is this?"[..], 0x8000_0001_u32), (2, &[], 1)]
    {
        let mut request = b"IHAVEOPT".to_vec();
        request.extend(option.to_be_bytes());
        request.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
        request.extend(data);
        client.write_all(&request).expect("the server reads the option");
        let mut reply = [0; 20];
        client.read_exact(&mut reply).expect("an answer");
        assert_eq!(reply[8..12], option.to_be_bytes());
        assert_eq!(reply[12..16], expected.to_be_bytes(), "option {option}");
        let len = u32::from_be_bytes(reply[16..].try_into().expect("four bytes"));
        let mut text = vec![0; len as usize];
        client.read_exact(&mut text).expect("the answer's text");
    }
}
