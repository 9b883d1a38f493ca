//! SIGTERM, SIGINT and SIGHUP: requests in flight are finished, sockets removed, exit status 0.

use crate::rude::deaf_client;
use crate::server::Server;
use crate::tool::{self, need};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// Ends a server with this signal and checks what it leaves behind.
fn ends_cleanly(server: &mut Server, signal: Signal) {
    server.signal(signal);
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!server.socket().exists(), "the NBD socket is still there");
    assert!(!server.control().exists(), "the control socket is still there");
}

#[test]
fn an_idle_server_ends_cleanly_on_each_signal() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        ends_cleanly(&mut Server::start("16M", &[]), signal);
    }
}

/// A terminal that is closed may send the signal twice; only one of the others ends a server at once.
#[test]
fn a_second_hangup_does_not_cut_the_end_short() {
    let mut server = Server::start("64M", &["--shutdown-grace", "2s"]);
    let _busy = deaf_client(&server);
    server.signal(Signal::HUP);
    // Too late to belong to the first one.
    std::thread::sleep(Duration::from_millis(700));
    server.assert_alive();
    ends_cleanly(&mut server, Signal::HUP);
}

/// A line that cannot be written stops neither the client it is about, nor the others, nor the end.
#[test]
fn a_stderr_nobody_reads_stops_nothing() {
    let options = ["--max-connections", "1", "--shutdown-grace", "2s"];
    let (mut server, _unread) = Server::start_stuck("64M", &options);
    let busy = deaf_client(&server);
    for _ in 0..2 {
        let mut refused = UnixStream::connect(server.socket()).expect("the server listens");
        refused.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        refused.read_exact(&mut [0; 18]).expect("a greeting");
        // Client flags, then NBD_OPT_GO for the export without a name.
        refused
            .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0")
            .expect("it takes the handshake");
        refused
            .read_exact(&mut [0; 20])
            .expect("an answer, though nobody reads that it was refused");
    }
    drop(busy);
    ends_cleanly(&mut server, Signal::TERM);
}

#[test]
fn under_nohup_a_hangup_is_ignored() {
    need!("nohup");
    let mut server = Server::start_by("nohup", "16M");
    server.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    server.assert_alive();
    ends_cleanly(&mut server, Signal::TERM);
}

#[test]
fn a_server_with_a_silent_client_ends_cleanly() {
    let mut server = Server::start("16M", &[]);
    let _silent =
        std::os::unix::net::UnixStream::connect(server.socket()).expect("the server listens");
    std::thread::sleep(Duration::from_millis(100));
    ends_cleanly(&mut server, Signal::TERM);
}

#[test]
fn a_server_with_requests_in_flight_ends_cleanly() {
    need!("fio");
    let mut server = Server::start("256M", &[]);
    let mut fio = tool::command("fio");
    fio.args([
        "--name=load",
        "--ioengine=nbd",
        "--rw=randwrite",
        "--bs=64k",
        "--iodepth=32",
        "--size=256m",
    ]);
    fio.args(["--time_based", "--runtime=60"])
        .arg(format!("--uri={}", server.uri()))
        .current_dir(server.folder());
    let mut client =
        fio.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("fio was found above");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(client.try_wait().expect("our child").is_none(), "fio ended before the signal");
    ends_cleanly(&mut server, Signal::TERM);
    // fio lost its disk; how it takes that is its own affair.
    client.wait().expect("our child");
}

/// `timeout` signals a process and then its group.
#[test]
fn signals_that_come_together_are_one() {
    let mut server = Server::start("64M", &["--shutdown-grace", "2s"]);
    let _busy = deaf_client(&server);
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    ends_cleanly(&mut server, Signal::TERM);
}

#[test]
fn a_second_signal_later_ends_at_once_without_sockets() {
    let mut server = Server::start("64M", &["--shutdown-grace", "10m"]);
    let _busy = deaf_client(&server);
    server.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(700));
    server.assert_alive();
    server.signal(Signal::TERM);
    let status = server.wait();
    assert_eq!(status.code(), Some(128 + 15), "{status}");
    assert!(!server.socket().exists(), "the NBD socket is still there");
    assert!(!server.control().exists(), "the control socket is still there");
}
