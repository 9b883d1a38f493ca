//! Tests with many clients.

use std::io::Read;
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit};

use crate::content::{self, MIB};
use crate::server::Server;
use crate::tool::{self, need};

#[test]
fn two_clients_write_their_halves_in_parallel() {
    need!("qemu-io", "nbdcopy");
    let server = Server::start("64M", &["--algorithm", "lz4"]);
    let half = content::programs(32 * MIB);
    let image = content::save(server.folder(), "half.img", &half);
    let commands = ["0", "32M"].map(|offset| format!("write -s {} {offset} 32M", image.display()));
    std::thread::scope(|scope| {
        for command in &commands {
            scope.spawn(|| {
                tool::succeed(
                    tool::command("qemu-io").args(["-f", "raw", "-c", command]).arg(server.uri()),
                )
            });
        }
    });
    let both = content::save(server.folder(), "both.img", &[half.as_slice(), &half].concat());
    let back = server.folder().join("back.img");
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    content::assert_same(&both, &back);
}

#[test]
fn a_thousand_connections_do_not_block_others() {
    need!("qemu-io");
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|max| max < 1200) {
        println!("SKIPPED: this process may open only {:?} files", limit.maximum);
        return;
    }
    limit = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, limit)
        .expect("the soft limit may be raised to the hard one");

    let mut server = Server::start("16M", &["--algorithm", "lz4"]);
    let before = server.resident_bytes();
    let crowd: Vec<UnixStream> = (0..1000).map(|number| greeted(&server, number)).collect();
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "a thousand idle connections use {grown} bytes");
    tool::succeed(
        tool::command("qemu-io")
            .args(["-f", "raw", "-c", "write -P 1 0 64k", "-c", "read -P 1 0 64k"])
            .arg(server.uri()),
    );
    drop(crowd);
    tool::succeed(
        tool::command("qemu-io").args(["-f", "raw", "-c", "read -P 1 0 64k"]).arg(server.uri()),
    );
    server.assert_alive();
}

/// Connects and receives the greeting.
fn greeted(server: &Server, number: usize) -> UnixStream {
    let mut client = UnixStream::connect(server.socket())
        .unwrap_or_else(|error| panic!("connection {number}: {error}"));
    client.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a read timeout");
    let mut greeting = [0; 18];
    client
        .read_exact(&mut greeting)
        .unwrap_or_else(|error| panic!("connection {number} got no greeting: {error}"));
    assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT", "connection {number}");
    client
}
