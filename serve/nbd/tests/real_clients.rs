//! The server with real clients: libnbd's tools, its Python shell, qemu and fio.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use support::disk::Disk;
use support::program::{attempt, command, installed, run, skip};
use support::served::Served;

const MIB: u64 = 1 << 20;

fn served(size: u64) -> Served {
    Served::unix(Arc::new(Disk::new(size)))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

/// Returns bytes that do not repeat, with a hole in the second quarter.
fn sparse_file(len: u64) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes: Vec<u8> = (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    bytes[(len / 4) as usize..(len / 2) as usize].fill(0);
    bytes
}

#[test]
fn nbdinfo_sees_size_limits_and_capabilities() {
    if !installed("nbdinfo_sees_size_limits_and_capabilities", "nbdinfo") {
        return;
    }
    let served = served(64 * MIB);
    let json = run("nbdinfo", &["--json", "--no-content", &served.uri]);
    for part in [
        "\"protocol\": \"newstyle-fixed\"",
        "\"structured\": true",
        "\"export-size\": 67108864",
        "\"base:allocation\"",
        "\"is_read_only\": false",
        "\"can_multi_conn\": true",
        "\"can_fast_zero\": true",
        "\"can_cache\": true",
        "\"can_df\": true",
        "\"can_flush\": true",
        "\"can_fua\": true",
        "\"can_trim\": true",
        "\"can_zero\": true",
        "\"block_size_minimum\": 1",
        "\"block_size_preferred\": 4096",
        "\"block_size_maximum\": 33554432",
    ] {
        assert!(json.contains(part), "{part} is missing in {json}");
    }
}

#[test]
fn nbdinfo_lists_the_export_over_tcp() {
    if !installed("nbdinfo_lists_the_export_over_tcp", "nbdinfo") {
        return;
    }
    let served = Served::tcp(Arc::new(Disk::new(MIB)));
    let list = run("nbdinfo", &["--list", &served.uri]);
    assert!(list.contains("export-size: 1048576"), "{list}");
}

#[test]
fn nbdinfo_maps_data_zeros_and_holes() {
    let name = "nbdinfo_maps_data_zeros_and_holes";
    if !installed(name, "nbdinfo") || !installed(name, "qemu-io") {
        return;
    }
    let served = served(4 * MIB);
    run(
        "qemu-io",
        &["-f", "raw", "-c", "write -P 7 1M 64k", "-c", "write -P 0 2M 64k", &served.uri],
    );
    let totals = run("nbdinfo", &["--map", "--totals", &served.uri]);
    for (size, kind) in [("65536", "data"), ("65536", "zero"), ("4063232", "hole,zero")] {
        let line =
            |line: &str| line.trim_start().starts_with(size) && line.trim_end().ends_with(kind);
        assert!(totals.lines().any(line), "{size} {kind} is missing in {totals}");
    }
}

#[test]
fn nbdcopy_round_trips_a_file() {
    if !installed("nbdcopy_round_trips_a_file", "nbdcopy") {
        return;
    }
    for served in [served(24 * MIB), Served::tcp(Arc::new(Disk::new(24 * MIB)))] {
        let (source, back) = (served.folder.file("in"), served.folder.file("out"));
        let content = sparse_file(24 * MIB);
        fs::write(&source, &content).unwrap();
        for connections in ["--connections=1", "--connections=4"] {
            run("nbdcopy", &[connections, text(&source), &served.uri]);
            run("nbdcopy", &[connections, &served.uri, text(&back)]);
            assert!(fs::read(&back).unwrap() == content, "{connections}");
        }
        run("nbdcopy", &["--synchronous", "--request-size=32768", &served.uri, text(&back)]);
        assert!(fs::read(&back).unwrap() == content);
    }
}

#[test]
fn nbdcopy_from_one_server_to_another_keeps_holes() {
    let name = "nbdcopy_from_one_server_to_another_keeps_holes";
    if !installed(name, "nbdcopy") || !installed(name, "nbdinfo") {
        return;
    }
    let (first, second) = (served(16 * MIB), served(16 * MIB));
    let source = first.folder.file("in");
    fs::write(&source, sparse_file(16 * MIB)).unwrap();
    run("nbdcopy", &[text(&source), &first.uri]);
    run("nbdcopy", &["--destination-is-zero", &first.uri, &second.uri]);
    assert_eq!(run("nbdinfo", &["--map", &first.uri]), run("nbdinfo", &["--map", &second.uri]));
}

#[test]
fn a_file_system_survives_a_round_trip() {
    let name = "a_file_system_survives_a_round_trip";
    if !["nbdcopy", "mke2fs", "e2fsck"].iter().all(|program| installed(name, program)) {
        return;
    }
    let served = served(32 * MIB);
    let (image, back) = (served.folder.file("in"), served.folder.file("out"));
    fs::write(&image, []).unwrap();
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-d",
            concat!(env!("CARGO_MANIFEST_DIR"), "/src"),
            text(&image),
            "32M",
        ],
    );
    run("nbdcopy", &[text(&image), &served.uri]);
    run("nbdcopy", &[&served.uri, text(&back)]);
    run("e2fsck", &["-f", "-n", text(&back)]);
    assert!(fs::read(&back).unwrap() == fs::read(&image).unwrap());
}

#[test]
fn qemu_io_verifies_patterns_zeros_and_discards() {
    if !installed("qemu_io_verifies_patterns_zeros_and_discards", "qemu-io") {
        return;
    }
    let served = served(64 * MIB);
    let script = [
        "write -P 1 0 1M",
        "write -P 2 4095 3",
        "read -P 1 0 4095",
        "read -P 2 4095 3",
        "write -P 3 1M 31M",
        "read -P 3 1M 31M",
        "write -z -u 2M 1M",
        "read -P 0 2M 1M",
        "write -z 3000001 5",
        "read -P 0 3000001 5",
        "read -P 3 3145728 1M",
        "discard 4M 8M",
        "read -P 0 4M 8M",
        "write -f -P 4 60M 4M",
        "aio_write -P 5 50M 1M",
        "aio_write -P 6 51M 1M",
        "aio_flush",
        "read -P 5 50M 1M",
        "read -P 6 51M 1M",
        "flush",
    ];
    let mut args = vec!["-f", "raw", "-d", "unmap"];
    for line in script.iter() {
        args.extend(["-c", line]);
    }
    args.push(&served.uri);
    let output = run("qemu-io", &args);
    assert!(!output.contains("failed"), "{output}");
    let past = attempt("qemu-io", &["-f", "raw", "-c", "write -P 1 64M 4k", &served.uri]);
    assert!(!past.status.success() || String::from_utf8_lossy(&past.stdout).contains("rror"));
}

#[test]
fn qemu_img_compares_equal_after_its_own_copy() {
    if !installed("qemu_img_compares_equal_after_its_own_copy", "qemu-img") {
        return;
    }
    let served = served(16 * MIB);
    let source = served.folder.file("in");
    fs::write(&source, sparse_file(16 * MIB)).unwrap();
    run(
        "qemu-img",
        &["convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", "8", text(&source), &served.uri],
    );
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(&source), &served.uri]);
}

#[test]
fn fio_verifies_what_it_wrote() {
    if !installed("fio_verifies_what_it_wrote", "fio") {
        return;
    }
    let served = served(32 * MIB);
    let mut args =
        vec!["--name=verify", "--ioengine=nbd", "--rw=randrw", "--bsrange=512-64k", "--size=32M"];
    args.extend([
        "--blockalign=512",
        "--iodepth=32",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--do_verify=1",
        "--randseed=7",
    ]);
    let uri = format!("--uri={}", served.uri);
    args.push(&uri);
    let output = command("fio").args(&args).current_dir(served.folder.file(".")).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    if stdout.contains("engine nbd not loadable") || stdout.contains("failed to load engine") {
        return skip("fio_verifies_what_it_wrote", "fio's nbd engine");
    }
    assert!(
        output.status.success() && stdout.contains("err= 0"),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A Python script for nbdsh; `h` is a connected handle.
const ODD_SEQUENCES: &str = r#"
import errno
size = h.get_size()
assert h.can_df() and h.can_meta_context("base:allocation")
h.pwrite(b"x" * 4096, 8192, nbd.CMD_FLAG_FUA)
h.zero(4096, 12288, nbd.CMD_FLAG_NO_HOLE)
h.zero(4096, 16384, nbd.CMD_FLAG_FAST_ZERO)
h.cache(65536, 0)
chunks = []
def chunk(buf, offset, status, err):
    chunks.append((offset, len(buf), status))
data = h.pread_structured(65536, 0, chunk)
assert data == b"\0" * 8192 + b"x" * 4096 + b"\0" * 53248
assert [c[2] for c in chunks][:2] == [nbd.READ_HOLE, nbd.READ_DATA], chunks
chunks.clear()
h.pread_structured(65536, 0, chunk, nbd.CMD_FLAG_DF)
assert len(chunks) == 1 and chunks[0][2] == nbd.READ_DATA, chunks
extents = []
def extent(context, offset, entries, err):
    assert context == "base:allocation"
    extents.append(entries)
h.block_status(size, 0, extent)
h.block_status(65536, 8192, extent, nbd.CMD_FLAG_REQ_ONE)
assert extents[0][:6] == [8192, 3, 4096, 0, 4096, 2], extents
assert extents[1] == [4096, 0], extents
h.set_strict_mode(getattr(nbd, "STRICT_AUTO_FLAG", 0))
def refused(code, call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        assert error.errno == code, (error.errno, code)
    else:
        raise AssertionError("not refused")
refused("EINVAL", h.pread, 4096, size)
refused("ENOSPC", h.pwrite, b"x", size)
refused("EINVAL", h.trim, 4096, size - 1)
refused("ENOSPC", h.zero, 4096, size - 1)
refused("ENOTSUP", h.zero, 512, 8192, nbd.CMD_FLAG_FAST_ZERO)
refused("EINVAL", h.trim, 4096, 0, nbd.CMD_FLAG_DF)
refused("EINVAL", h.block_status, 0, 0, extent)
cookies = []
for n in range(64):
    buffer = nbd.Buffer.from_bytearray(bytearray([n]) * 512)
    cookies.append(h.aio_pwrite(buffer, n * 512))
while h.aio_in_flight() > 0:
    h.poll(-1)
for n in range(64):
    assert h.pread(512, n * 512) == bytes([n]) * 512
assert h.pread(0, 0) == b""
h.flush()
h.shutdown()
"#;

#[test]
fn nbdsh_runs_unusual_sequences() {
    if !installed("nbdsh_runs_unusual_sequences", "nbdsh") {
        return;
    }
    let served = served(8 * MIB);
    let output = attempt("nbdsh", &["--base-allocation", "-u", &served.uri, "-c", ODD_SEQUENCES]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(served.handle.stats().errors.broken_connections, 0);
}
