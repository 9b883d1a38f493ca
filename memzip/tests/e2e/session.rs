//! Unusual and invalid sequences of requests, sent by nbdsh, libnbd's shell in Python.

use crate::server::Server;
use crate::tool::{self, need};

/// Runs a Python script with a connected handle `h`. Its own checks are off, so that the server
/// gets each request.
fn nbdsh(server: &Server, script: &str) {
    let prelude = "\
import errno, nbd
h.set_strict_mode(getattr(nbd, 'STRICT_AUTO_FLAG', 0))
size = h.get_size()
def refused(call, *names):
    try:
        call()
    except nbd.Error as error:
        assert error.errno in names, error
    else:
        assert False, 'the server should have refused'
";
    let whole = format!("{prelude}{script}");
    tool::succeed(tool::nbdsh().args(["-u", server.uri(), "-c", &whole]));
}

#[test]
fn requests_past_the_end_keep_the_connection() {
    need!("nbdsh");
    let script = "\
refused(lambda: h.pread(512, size), 'EINVAL')
refused(lambda: h.pread(512, size - 511), 'EINVAL')
refused(lambda: h.pread(512, 2**63 - 512), 'EINVAL')
refused(lambda: h.pwrite(b'x' * 512, size), 'ENOSPC', 'EINVAL')
refused(lambda: h.pwrite(b'x' * 4096, size - 1), 'ENOSPC', 'EINVAL')
refused(lambda: h.trim(4096, size), 'EINVAL', 'ENOSPC')
refused(lambda: h.zero(4096, size), 'ENOSPC', 'EINVAL')
h.pwrite(b'still here', 0)
assert h.pread(10, 0) == b'still here'
";
    nbdsh(&Server::start("1M", &[]), script);
}

#[test]
fn requests_of_length_zero_change_nothing() {
    need!("nbdsh");
    let script = "\
h.pwrite(b'abc', 0)
for call in (lambda: h.pwrite(b'', 0), lambda: h.trim(0, 0), lambda: h.zero(0, 0)):
    try:
        call()
    except nbd.Error as error:
        assert error.errno == 'EINVAL', error
assert h.pread(3, 0) == b'abc'
";
    nbdsh(&Server::start("1M", &[]), script);
}

#[test]
fn requests_of_32_mib_work_and_longer_ones_fail() {
    need!("nbdsh");
    let script = "\
import os
data = os.urandom(32 * 1024 * 1024)
h.pwrite(data, 4097)
assert h.pread(len(data), 4097) == data
refused(lambda: h.pread(32 * 1024 * 1024 + 1, 0), 'EINVAL', 'EOVERFLOW')
assert h.pread(16, 4097) == data[:16]
";
    nbdsh(&Server::start("64M", &["--algorithm", "lz4"]), script);
}

#[test]
fn trim_and_zero_may_exceed_the_largest_payload() {
    need!("nbdsh");
    let script = "\
h.pwrite(b'x' * 8192, 64 * 1024 * 1024)
h.trim(size, 0)
assert h.pread(8192, 64 * 1024 * 1024) == bytes(8192)
h.pwrite(b'x' * 8192, 64 * 1024 * 1024)
h.zero(size, 0)
assert h.pread(8192, 64 * 1024 * 1024) == bytes(8192)
";
    nbdsh(&Server::start("1G", &[]), script);
}

#[test]
fn zero_is_exact_where_trim_may_leave_the_edges() {
    need!("nbdsh");
    let script = "\
h.pwrite(b'x' * 16384, 0)
h.zero(8192, 100)
assert h.pread(16384, 0) == b'x' * 100 + bytes(8192) + b'x' * (16384 - 8292)
h.pwrite(b'y' * 16384, 0)
h.trim(8192, 100)
data = h.pread(16384, 0)
assert data[:100] == b'y' * 100 and data[8292:] == b'y' * (16384 - 8292)
assert all(byte in b'y\\0' for byte in data)
";
    nbdsh(&Server::start("1M", &[]), script);
}

#[test]
fn flags_and_hints_are_accepted() {
    need!("nbdsh");
    let script = "\
h.pwrite(b'x' * 4096, 0, nbd.CMD_FLAG_FUA)
h.cache(4096, 0)
h.flush()
h.zero(4096, 4096, nbd.CMD_FLAG_FAST_ZERO)
h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert h.pread(12288, 0) == b'x' * 4096 + bytes(8192)
";
    nbdsh(&Server::start("1M", &[]), script);
}

#[test]
fn a_relative_socket_path_is_printed_in_full() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = crate::server::memzip("serve");
    command.args([
        "--size",
        "4M",
        "--unix",
        "a b.sock",
        "--socket-mode",
        "640",
        "--control",
        "control.sock",
    ]);
    let mut server = command
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("memzip starts");
    let mut line = String::new();
    let stdout = server.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
    let socket = folder.path().join("a b.sock");
    let connected = std::os::unix::net::UnixStream::connect(&socket);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &socket.metadata().expect("a socket").permissions(),
    );
    server.kill().expect("a child process");
    server.wait().expect("a child process");
    let whole = folder.path().canonicalize().expect("a folder");
    assert_eq!(line.trim_end(), format!("nbd+unix:///?socket={}/a%20b.sock", whole.display()));
    assert_eq!(mode & 0o777, 0o640);
    connected.expect("the server listens");
}

#[test]
fn sixty_four_replies_match_their_requests() {
    need!("nbdsh");
    let script = "\
for page in range(64):
    h.pwrite(bytes([page]) * 4096, page * 4096)
buffers = [nbd.Buffer(4096) for _ in range(64)]
for page in reversed(range(64)):
    h.aio_pread(buffers[page], page * 4096)
while h.aio_in_flight() > 0:
    h.poll(-1)
for page in range(64):
    assert buffers[page].to_bytearray() == bytes([page]) * 4096, page
";
    nbdsh(&Server::start("1M", &[]), script);
}

#[test]
fn a_client_with_simple_replies_is_served() {
    need!("nbdsh");
    let server = Server::start("1M", &[]);
    let script = format!(
        "h = nbd.NBD()\nh.set_request_structured_replies(False)\nh.connect_uri('{}')\nh.pwrite(b'plain', 7)\n\
         assert h.pread(5, 7) == b'plain'\nassert not h.get_structured_replies_negotiated()\nh.shutdown()\n",
        server.uri()
    );
    tool::succeed(tool::nbdsh().args(["-c", &script]));
}

#[test]
fn block_status_shows_holes_inside_data() {
    need!("nbdsh");
    let server = Server::start("1M", &[]);
    let script = format!(
        "import os\nh = nbd.NBD()\nh.add_meta_context('base:allocation')\nh.connect_uri('{}')\n\
         h.pwrite(os.urandom(12288), 0)\nh.trim(4096, 4096)\nfound = []\n\
         h.block_status(16384, 0, lambda context, offset, entries, error: found.extend(entries) and 0 or 0)\n\
         assert found[:6] == [4096, 0, 4096, 3, 4096, 0], found\n",
        server.uri()
    );
    tool::succeed(tool::nbdsh().args(["-c", &script]));
}
