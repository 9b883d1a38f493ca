//! libnbd 1.18 or newer, which asks for extended headers by default. `cargo xtask setup` builds
//! it where the system's version is older.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::process::{Command, Output};
use std::sync::Arc;

use support::disk::Disk;
use support::program::{command, skip};
use support::served::Served;

/// The directory in which `cargo xtask setup` builds libnbd.
const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/libnbd/python");

/// Returns Debian's Python, for which the module is built. It finds the built module first, else
/// the system's.
fn python(script: &str, socket: &str) -> Command {
    let mut python = command("/usr/bin/python3");
    python.args(["-c", script, socket]).env("PYTHONPATH", format!("{BUILT}:{BUILT}/.libs"));
    python
}

fn socket(served: &Served) -> &str {
    served.path().to_str().expect("an ASCII path")
}

fn is_new_enough() -> bool {
    let script = "import nbd; v = nbd.NBD().get_version().split('.'); \
                  assert (int(v[0]), int(v[1])) >= (1, 18)";
    python(script, "").output().is_ok_and(|output| output.status.success())
}

/// Connects to the server and runs the script with the handle `h`.
fn run(served: &Served, script: &str) -> Output {
    let start = "import nbd, sys\nh = nbd.NBD()\nh.add_meta_context('base:allocation')\n\
                 h.connect_unix(sys.argv[1])\n";
    python(&format!("{start}{script}"), socket(served)).output().expect("Python starts")
}

const EXTENDED: &str = r#"
assert h.get_extended_headers_negotiated() and h.get_structured_replies_negotiated()
size = h.get_size()
assert size == 6 << 30, size
assert h.can_df() and h.can_meta_context("base:allocation")
extents = []
def extent(context, offset, entries, err):
    extents.extend(entries)
h.block_status_64(size, 0, extent)
assert extents == [(size, 3)], extents
h.pwrite(b"x" * 4096, 5 << 30, nbd.CMD_FLAG_FUA)
extents.clear()
h.block_status_64(size, 0, extent)
assert extents == [(5 << 30, 3), (4096, 0), ((1 << 30) - 4096, 3)], extents
assert h.pread(8192, (5 << 30) - 4096) == bytes(4096) + b"x" * 4096
h.zero(size, 0)
extents.clear()
h.block_status_64(size, 0, extent)
assert extents == [(size, 3)], extents
h.pwrite(b"y" * 100000, 4093)
h.trim(size, 0)
assert h.pread(1 << 20, 0) == bytes(1 << 20)
h.cache(size, 0)
h.set_strict_mode(getattr(nbd, "STRICT_AUTO_FLAG", 0))
def refused(code, call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        assert error.errno == code, (error.errno, code)
    else:
        raise AssertionError("not refused")
refused("EINVAL", h.trim, size + 1, 0)
refused("ENOSPC", h.zero, size, 1)
refused("EINVAL", h.block_status_64, size + 1, 0, extent)
refused("ENOTSUP", h.zero, 512, 8192, nbd.CMD_FLAG_FAST_ZERO)
h.flush()
h.shutdown()
"#;

#[test]
fn libnbd_trims_zeroes_and_maps_gigabytes_at_once() {
    let name = "libnbd_trims_zeroes_and_maps_gigabytes_at_once";
    if !is_new_enough() {
        return skip(name, "libnbd 1.18 or newer");
    }
    let served = Served::unix(Arc::new(support::disk::Sparse::new(6 << 30)));
    let output = run(&served, EXTENDED);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(served.handle.stats().errors.broken_connections, 0);
}

/// Runs the same client without extended headers, and without structured replies.
#[test]
fn libnbd_falls_back_to_older_replies() {
    let name = "libnbd_falls_back_to_older_replies";
    if !is_new_enough() {
        return skip(name, "libnbd 1.18 or newer");
    }
    let served = Served::unix(Arc::new(Disk::new(1 << 20)));
    for (extended, structured) in [("True", "True"), ("False", "True"), ("False", "False")] {
        let script = format!(
            "import nbd, sys\nh = nbd.NBD()\nh.set_request_extended_headers({extended})\n\
             h.set_request_structured_replies({structured})\nh.connect_unix(sys.argv[1])\n\
             assert h.get_extended_headers_negotiated() == {extended}\n\
             assert h.get_structured_replies_negotiated() == {structured}\n\
             h.pwrite(b'abc', 4095)\nassert h.pread(5, 4094) == b'\\0abc\\0'\nh.trim(1 << 20, 0)\n\
             h.shutdown()\n"
        );
        let output = python(&script, socket(&served)).output().expect("Python starts");
        assert!(
            output.status.success(),
            "{extended} {structured}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(served.handle.stats().errors.broken_connections, 0);
}
