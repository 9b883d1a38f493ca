//! Clients that misbehave or vanish. The next one must not notice.

use crate::content::{self, MIB};
use crate::server::Server;
use crate::tool::{self, need};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

/// A client that asked for much more than its socket holds and takes nothing: its request stays in flight.
pub fn deaf_client(server: &Server) -> UnixStream {
    let mut client = UnixStream::connect(server.socket()).expect("the server listens");
    client.read_exact(&mut [0; 18]).expect("a greeting");
    // Client flags, then NBD_OPT_EXPORT_NAME with an empty name: straight into the transmission phase.
    client.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0").expect("it takes the handshake");
    client.read_exact(&mut [0; 10]).expect("size and flags");
    let mut read = 0x2560_9513_u32.to_be_bytes().to_vec();
    read.extend([0; 20]);
    read.extend((32_u32 << 20).to_be_bytes());
    client.write_all(&read).expect("it takes the request");
    // The first bytes of the reply: the request is in flight.
    client.read_exact(&mut [0; 16]).expect("the reply begins");
    client
}

/// Panics unless the disk can be written and read by a well-behaved client.
fn assert_serves(server: &mut Server) {
    let commands = ["-c", "write -P 0x42 1M 64k", "-c", "read -P 0x42 1M 64k"];
    tool::succeed(tool::command("qemu-io").args(["-f", "raw"]).args(commands).arg(server.uri()));
    server.assert_alive();
}

#[test]
fn a_client_killed_in_the_middle_of_writing_leaves_old_or_new_pages_only() {
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
        client.try_wait().expect("our child").is_none(),
        "nbdcopy was done before it could be killed"
    );
    client.kill().expect("our child");
    client.wait().expect("our child");

    let back = server.folder().join("back.img");
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    let back = std::fs::read(back).expect("the copy");
    let pages = back.chunks(4096).zip(old.chunks(4096)).zip(new.chunks(4096));
    let torn = pages.enumerate().find(|(_, ((found, old), new))| found != old && found != new);
    assert!(torn.is_none(), "page {:?} is neither old nor new", torn.map(|(page, _)| page));
    assert_serves(&mut server);
}

#[test]
fn garbage_instead_of_a_handshake_closes_that_connection_only() {
    need!("qemu-io");
    let mut server = Server::start("4M", &[]);
    for garbage in [
        content::noise(64),
        content::noise(1 << 20),
        vec![0; 4096],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut client = UnixStream::connect(server.socket()).expect("the server listens");
        client
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a socket takes a time limit");
        // The server may hang up while we are still sending; that is its right.
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
fn half_a_header_and_half_a_payload_are_dropped_with_their_client() {
    need!("qemu-io");
    let mut server = Server::start("4M", &[]);
    // Client flags, then NBD_OPT_EXPORT_NAME with an empty name: straight into the transmission phase.
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
fn an_unknown_command_is_refused_and_the_connection_goes_on() {
    let server = Server::start("4M", &[]);
    let mut client = UnixStream::connect(server.socket()).expect("the server listens");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket takes a time limit");
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
fn unknown_option_does_not_end_the_handshake() {
    let server = Server::start("4M", &[]);
    let mut client = UnixStream::connect(server.socket()).expect("the server listens");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket takes a time limit");
    let mut greeting = [0; 18];
    client.read_exact(&mut greeting).expect("a greeting");
    client.write_all(&[0, 0, 0, 3]).expect("the server reads the flags");
    // An option nobody knows, with data; then NBD_OPT_ABORT, which is acknowledged only if the server is still in step.
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
