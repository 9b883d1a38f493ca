//! Tests with QEMU's block layer: qemu-io for single requests, qemu-img for whole images.

use crate::content::{self, MIB};
use crate::server::Server;
use crate::tool::{self, need};

/// Runs commands of qemu-io against the disk; a pattern that does not match fails.
fn qemu_io(server: &Server, commands: &[&str]) -> String {
    let mut qemu = tool::command("qemu-io");
    qemu.args(["-f", "raw", "-d", "unmap"]);
    commands.iter().for_each(|command| _ = qemu.args(["-c", command]));
    let output = tool::succeed(qemu.arg(server.uri()));
    assert!(!output.contains("failed"), "{output}");
    output
}

#[test]
fn a_pattern_reads_back_and_as_zeros_when_discarded() {
    need!("qemu-io");
    let server = Server::start("64M", &[]);
    qemu_io(&server, &["write -P 0xa5 1M 1M", "read -P 0xa5 1M 1M", "read -P 0 0 1M"]);
    qemu_io(&server, &["discard 1M 1M", "flush", "read -P 0 1M 1M"]);
}

#[test]
fn write_zeroes_zeroes_exactly_its_range() {
    need!("qemu-io");
    let server = Server::start("64M", &[]);
    let commands =
        ["write -P 0x5a 0 64k", "write -z -u 4608 20992", "flush", "read -P 0x5a 0 4608"];
    qemu_io(&server, &commands);
    qemu_io(&server, &["read -P 0 4608 20992", "read -P 0x5a 25600 39936"]);
}

#[test]
fn requests_at_every_alignment_keep_their_neighbours() {
    need!("qemu-io");
    let server = Server::start("1M", &[]);
    let write = [
        "write -P 0x11 0 32k",
        "write -P 0x22 4095 2",
        "write -P 0x33 8191 4098",
        "write -P 0x44 16384 1",
    ];
    qemu_io(&server, &write);
    let inside = ["read -P 0x22 4095 2", "read -P 0x33 8191 4098", "read -P 0x44 16384 1"];
    qemu_io(&server, &inside);
    let between = [
        "read -P 0x11 0 4095",
        "read -P 0x11 4097 4094",
        "read -P 0x11 12289 4095",
        "read -P 0x11 16385 16383",
    ];
    qemu_io(&server, &between);
}

#[test]
fn fua_writes_are_acknowledged_and_stored() {
    need!("qemu-io");
    let server = Server::start("1M", &[]);
    qemu_io(&server, &["write -f -P 0x77 512 4096", "read -P 0x77 512 4096"]);
}

#[test]
fn a_converted_image_compares_equal_and_converts_back() {
    need!("qemu-img");
    let server = Server::start("64M", &["--algorithm", "zstd:1"]);
    let image = content::save(server.folder(), "in.img", &content::programs(64 * MIB));
    let back = server.folder().join("out.qcow2");
    tool::succeed(
        tool::command("qemu-img")
            .args(["convert", "-n", "-f", "raw", "-O", "raw"])
            .arg(&image)
            .arg(server.uri()),
    );
    let compare = ["compare", "-f", "raw", "-F", "raw"];
    tool::succeed(tool::command("qemu-img").args(compare).arg(&image).arg(server.uri()));
    tool::succeed(
        tool::command("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .arg(server.uri())
            .arg(&back),
    );
    tool::succeed(
        tool::command("qemu-img")
            .args(["compare", "-f", "raw", "-F", "qcow2"])
            .arg(&image)
            .arg(&back),
    );
}
