//! The server against clients other people wrote: libnbd's tools, qemu-io and fio.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::sync::Arc;
use support::disk::Disk;
use support::program::{installed, run};
use support::served::Served;

const MIB: u64 = 1 << 20;

#[test]
fn nbdinfo_sees_size_name_limits_and_capabilities() {
    if !installed("nbdinfo_sees_size_name_limits_and_capabilities", "nbdinfo") {
        return;
    }
    let served = Served::unix(Arc::new(Disk::new(64 * MIB)));
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
    let text = run("nbdinfo", &["--list", &served.uri]);
    assert!(text.contains("export-size: 1048576"), "{text}");
}

#[test]
fn nbdinfo_maps_holes_and_data() {
    if !installed("nbdinfo_maps_holes_and_data", "nbdinfo") || !installed("nbdinfo_maps_holes_and_data", "qemu-io") {
        return;
    }
    let served = Served::unix(Arc::new(Disk::new(4 * MIB)));
    run("qemu-io", &["-f", "raw", "-c", "write -P 7 1M 64k", "-c", "write -z 2M 64k", &served.uri]);
    let totals = run("nbdinfo", &["--map", "--totals", &served.uri]);
    assert!(totals.lines().any(|line| line.trim_start().starts_with("65536 ") && line.contains("data")), "{totals}");
}
