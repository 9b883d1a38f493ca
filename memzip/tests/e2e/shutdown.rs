//! Tests of SIGTERM, SIGINT and SIGHUP: requests in flight finish, sockets are removed, the status
//! is 0.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::rude::stalled_client;
use crate::server::Server;
use crate::tool::{self, need};

/// Ends a server with this signal; it must exit with status 0 and remove its sockets.
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

/// A closing terminal may send SIGHUP twice; only a second SIGTERM or SIGINT ends a server at once.
#[test]
fn a_second_sighup_does_not_end_at_once() {
    let mut server = Server::start("64M", &["--shutdown-grace", "2s"]);
    let _busy = stalled_client(&server);
    server.signal(Signal::HUP);
    // Long after the coalescing window of the first signal.
    std::thread::sleep(Duration::from_millis(700));
    server.assert_alive();
    ends_cleanly(&mut server, Signal::HUP);
}

/// A log line that cannot be written blocks neither its client nor others nor the shutdown.
#[test]
fn a_full_stderr_pipe_blocks_nothing() {
    let options = ["--max-connections", "1", "--shutdown-grace", "2s"];
    let (mut server, _unread) = Server::start_with_full_stderr("64M", &options);
    let busy = stalled_client(&server);
    for _ in 0..2 {
        let mut refused = UnixStream::connect(server.socket()).expect("the server listens");
        refused.set_read_timeout(Some(Duration::from_secs(20))).expect("a read timeout");
        refused.read_exact(&mut [0; 18]).expect("a greeting");
        // Client flags, then NBD_OPT_GO for the export without a name.
        refused
            .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0")
            .expect("the server reads the handshake");
        refused.read_exact(&mut [0; 20]).expect("an answer although the log is blocked");
    }
    drop(busy);
    ends_cleanly(&mut server, Signal::TERM);
}

#[test]
fn sighup_is_ignored_under_nohup() {
    need!("nohup");
    let mut server = Server::start_under("nohup", "16M");
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
    assert!(client.try_wait().expect("a child process").is_none(), "fio ended before the signal");
    ends_cleanly(&mut server, Signal::TERM);
    // fio lost its disk; its status does not matter.
    client.wait().expect("a child process");
}

/// `timeout` signals a process and then its group.
#[test]
fn signals_in_quick_succession_count_as_one() {
    let mut server = Server::start("64M", &["--shutdown-grace", "2s"]);
    let _busy = stalled_client(&server);
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    ends_cleanly(&mut server, Signal::TERM);
}

#[test]
fn a_later_second_signal_ends_at_once() {
    let mut server = Server::start("64M", &["--shutdown-grace", "10m"]);
    let _busy = stalled_client(&server);
    server.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(700));
    server.assert_alive();
    server.signal(Signal::TERM);
    let status = server.wait();
    assert_eq!(status.code(), Some(128 + 15), "{status}");
    assert!(!server.socket().exists(), "the NBD socket is still there");
    assert!(!server.control().exists(), "the control socket is still there");
}
