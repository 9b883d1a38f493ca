//! Compiles the crates with system calls and unsafe code for aarch64, and runs their unit tests in
//! QEMU.
//!
//! The target's standard library must be in the sysroot of the compiler in use (`RUSTC`, or
//! `rustc`). If something is missing, the check prints it with the remedy and is skipped.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// All packages below the store.
const PACKAGES: [&str; 5] =
    ["memzip-sync", "memzip-sys", "memzip-frames", "memzip-zsmalloc", "memzip-balloon"];
/// Packages with code of their own for the architecture or for atomics, whose unit tests run.
const TESTED: [&str; 3] = ["memzip-sync", "memzip-sys", "memzip-frames"];
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Tests of calls in a zone of 1 TiB: the emulator reserves every page of it and is killed.
const LEFT_OUT: &str = "large_zone_tests";
/// The folder of the target's C library on Debian.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// Compiles the packages, and runs unit tests where a linker and an emulator are installed.
pub(crate) fn check() -> Result<()> {
    if !has_standard_library()? {
        println!(
            "SKIPPED aarch64: no standard library for {TARGET}; remedy: rustup target add {TARGET}"
        );
        return Ok(());
    }
    shell::run(cargo("check", &PACKAGES).args(["--lib", "--quiet"]))?;
    if shell::find_program(LINKER).is_none() || shell::find_program(EMULATOR).is_none() {
        println!(
            "SKIPPED aarch64 unit tests: remedy: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
        );
        return Ok(());
    }
    let mut test = cargo("test", &TESTED);
    test.args(["--lib", "--quiet", "--", "--skip", LEFT_OUT]);
    test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
    test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{EMULATOR} -L {LIBRARIES}"));
    shell::run(&mut test)
}

/// Returns a cargo command for the target, with its own target folder: flags and compiler may
/// differ.
fn cargo(subcommand: &str, packages: &[&str]) -> Command {
    let mut command = shell::cargo(subcommand);
    command
        .args(["--target", TARGET])
        .env("CARGO_TARGET_DIR", shell::root().join("target").join("aarch64"));
    packages.iter().for_each(|package| _ = command.args(["--package", package]));
    command
}

fn has_standard_library() -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .context("cannot ask rustc for its sysroot")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir())
}
