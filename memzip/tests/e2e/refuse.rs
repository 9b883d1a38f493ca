//! What `memzip serve` cannot do, it refuses with a sentence on stderr and a status, never with a panic.

use crate::server::memzip;
use crate::tool;
use std::process::Stdio;

/// Starts a server that must not come up, and returns what it said.
fn refused(options: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = tool::command(env!("CARGO_BIN_EXE_memzip"));
    command
        .arg("serve")
        .arg("--unix")
        .arg(folder.path().join("disk.sock"))
        .args(options)
        .stdin(Stdio::null());
    let said = tool::fail(&mut command);
    assert!(!said.contains("panicked"), "{said}");
    assert!(!said.contains("nbd+unix://"), "{said}");
    assert!(!folder.path().join("disk.sock").exists(), "a socket was left behind");
    said
}

#[test]
fn a_size_of_zero_is_refused() {
    let said = refused(&["--size", "0"]);
    assert!(said.contains("size"), "{said}");
}

#[test]
fn a_size_of_two_to_the_63_is_refused() {
    refused(&["--size", "9223372036854775808"]);
}

#[test]
fn an_arena_that_cannot_be_reserved_is_refused() {
    // More than the 47 bits of address space a process has.
    refused(&["--size", "512T"]);
}

#[test]
fn an_unknown_algorithm_or_level_is_refused_and_the_known_ones_named() {
    let said = refused(&["--algorithm", "rot13"]);
    assert!(said.contains("lz4") && said.contains("zstd"), "{said}");
    refused(&["--algorithm", "zstd:900"]);
    refused(&["--algorithm", "lz4hc:"]);
}

#[test]
fn a_size_that_is_no_number_is_refused() {
    refused(&["--size", "many"]);
    refused(&["--size", "-1"]);
    refused(&["--size", "4Q"]);
}

#[test]
fn a_socket_path_that_cannot_be_made_is_refused_by_name() {
    let mut command = memzip("serve");
    let said = tool::fail(
        command.args(["--size", "4M", "--unix", "/proc/no/such.sock"]).stdin(Stdio::null()),
    );
    assert!(said.contains("/proc/no/such.sock"), "{said}");
}

#[test]
fn two_servers_on_one_socket_are_refused_while_the_first_lives() {
    let server = crate::server::Server::start("4M", &[]);
    let mut second = tool::command(env!("CARGO_BIN_EXE_memzip"));
    tool::fail(
        second.args(["serve", "--size", "4M", "--unix"]).arg(server.socket()).stdin(Stdio::null()),
    );
    assert!(server.socket().exists(), "the second server took the first one's socket away");
}

#[test]
fn one_path_for_both_sockets_is_refused_however_it_is_spelled() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("sub")).expect("a folder in it");
    for spelled in ["one.sock", "./one.sock", "sub/../one.sock"] {
        let mut command = memzip("serve");
        command
            .args(["--size", "4M", "--unix", "one.sock", "--control", spelled])
            .current_dir(folder.path());
        let said = tool::fail(command.stdin(Stdio::null()));
        assert!(said.contains("--unix and --control are both"), "{said}");
        assert!(!folder.path().join("one.sock").exists(), "a socket was left behind");
    }
}
