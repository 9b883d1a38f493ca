//! Requests that `memzip serve` refuses: with a sentence on standard error and a status, never with
//! a panic.

use std::process::Stdio;

use crate::server::memzip;
use crate::tool;

/// Starts a server that must refuse to start, and returns its output.
fn refused(options: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = tool::command(env!("CARGO_BIN_EXE_memzip"));
    command
        .arg("serve")
        .arg("--unix")
        .arg(folder.path().join("disk.sock"))
        .args(options)
        .stdin(Stdio::null());
    let text = tool::fail(&mut command);
    assert!(!text.contains("panicked"), "{text}");
    assert!(!text.contains("nbd+unix://"), "{text}");
    assert!(!folder.path().join("disk.sock").exists(), "a socket was left behind");
    text
}

#[test]
fn a_size_of_zero_is_refused() {
    let text = refused(&["--size", "0"]);
    assert!(text.contains("size"), "{text}");
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
fn an_unknown_algorithm_or_level_is_refused() {
    let text = refused(&["--algorithm", "rot13"]);
    assert!(text.contains("lz4") && text.contains("zstd"), "{text}");
    refused(&["--algorithm", "zstd:900"]);
    refused(&["--algorithm", "lz4hc:"]);
}

#[test]
fn a_size_that_is_not_a_number_is_refused() {
    refused(&["--size", "many"]);
    refused(&["--size", "-1"]);
    refused(&["--size", "4Q"]);
}

#[test]
fn an_impossible_socket_path_is_refused_by_name() {
    let mut command = memzip("serve");
    let text = tool::fail(
        command.args(["--size", "4M", "--unix", "/proc/no/such.sock"]).stdin(Stdio::null()),
    );
    assert!(text.contains("/proc/no/such.sock"), "{text}");
}

#[test]
fn a_second_server_on_one_socket_is_refused() {
    let server = crate::server::Server::start("4M", &[]);
    let mut second = tool::command(env!("CARGO_BIN_EXE_memzip"));
    tool::fail(
        second.args(["serve", "--size", "4M", "--unix"]).arg(server.socket()).stdin(Stdio::null()),
    );
    assert!(server.socket().exists(), "the second server removed the first one's socket");
}

#[test]
fn one_path_for_both_sockets_is_always_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("sub")).expect("a folder in it");
    for spelled in ["one.sock", "./one.sock", "sub/../one.sock"] {
        let mut command = memzip("serve");
        command
            .args(["--size", "4M", "--unix", "one.sock", "--control", spelled])
            .current_dir(folder.path());
        let text = tool::fail(command.stdin(Stdio::null()));
        assert!(text.contains("--unix and --control are both"), "{text}");
        assert!(!folder.path().join("one.sock").exists(), "a socket was left behind");
    }
}
