//! Tests with fio's NBD engine, which verifies the checksum of every block it wrote.

use crate::server::Server;
use crate::tool::{self, need};

/// Runs fio with these options: it writes, then reads everything back and verifies.
fn verify(server: &Server, options: &[&str]) {
    let mut fio = tool::command("fio");
    fio.args([
        "--name=verify",
        "--ioengine=nbd",
        "--size=48m",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
    ]);
    fio.args(["--randrepeat=1", "--buffer_compress_percentage=50"]);
    let output = tool::succeed(
        fio.arg(format!("--uri={}", server.uri())).args(options).current_dir(server.folder()),
    );
    assert!(output.contains("err= 0"), "{output}");
}

#[test]
fn random_writes_at_depth_32_verify() {
    need!("fio");
    verify(
        &Server::start("48M", &["--algorithm", "lz4"]),
        &["--rw=randwrite", "--bs=4k", "--iodepth=32"],
    );
}

#[test]
fn writes_of_all_lengths_at_all_offsets_verify() {
    need!("fio");
    let options = ["--rw=randwrite", "--bsrange=512-256k", "--bs_unaligned=1", "--iodepth=16"];
    verify(&Server::start("48M", &[]), &options);
}

#[test]
fn two_jobs_with_separate_connections_verify() {
    need!("fio");
    let options = [
        "--rw=randwrite",
        "--bs=8k",
        "--iodepth=16",
        "--numjobs=2",
        "--offset_increment=48m",
        "--group_reporting",
    ];
    verify(&Server::start("96M", &["--algorithm", "lz4"]), &options);
}
