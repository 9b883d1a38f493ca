//! An address space too small for the arena.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

use std::process::Command;

use frames::{FrameCount, Zone, ZoneConfig, ZoneError};

const CHILD: &str = "MEMZIP_TEST_SMALL_ADDRESS_SPACE";

/// The test runs itself again with 4 GiB of address space and requests 1 TiB there.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_reservation_the_os_refuses_is_an_error() {
    if std::env::var_os(CHILD).is_some() {
        let zone = Zone::new(ZoneConfig {
            capacity: FrameCount::holding(1 << 40),
            ..ZoneConfig::default()
        });
        assert!(matches!(zone, Err(ZoneError::Reserve { .. })), "{zone:?}");
        return;
    }
    let test = std::env::current_exe().expect("a test is a program");
    let child = Command::new("sh")
        .args([
            "-c",
            "ulimit -v 4194304 && exec \"$0\" --exact a_reservation_the_os_refuses_is_an_error",
        ])
        .arg(test)
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "the child ran the test");
}
