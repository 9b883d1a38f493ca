//! Real memory failures under a store in this process.
//!
//! The kernel takes frames of the store's arena away (`MADV_HWPOISON`, `hard_offline_page`) or
//! moves their content (`MADV_SOFT_OFFLINE`). Every page is verified after each step (R-025, S-38).
//!
//! `cargo xtask guest memory-failure` builds this program and runs it as root in a guest, because
//! the guest's kernel loses the failed memory until the next boot. Lines for the host begin with
//! `@@`.

#![forbid(unsafe_code)]

mod content;
mod kernel;
mod disk;
mod scenario;

use std::process::ExitCode;

use sys::Backing;
use sys::memory_failure::catch_memory_failures;

use kernel::{FailureMode, TestResult};
use scenario::Scenario;

/// Both backings of an arena, with all ways in which the kernel notifies a process.
const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "anonymous memory, MADV_HWPOISON",
        backing: Backing::Anonymous,
        mode: FailureMode::Madvise,
    },
    Scenario {
        name: "anonymous memory, notified on access",
        backing: Backing::Anonymous,
        mode: FailureMode::OnAccess,
    },
    Scenario {
        name: "anonymous memory, early kill",
        backing: Backing::Anonymous,
        mode: FailureMode::AtOnce,
    },
    Scenario {
        name: "memory file, MADV_HWPOISON",
        backing: Backing::Memfd,
        mode: FailureMode::Madvise,
    },
    Scenario {
        name: "memory file, notified on access",
        backing: Backing::Memfd,
        mode: FailureMode::OnAccess,
    },
    Scenario {
        name: "memory file, early kill",
        backing: Backing::Memfd,
        mode: FailureMode::AtOnce,
    },
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("@@ failed {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> TestResult<()> {
    catch_memory_failures()
        .map_err(|errno| format!("the SIGBUS handler cannot be installed: {errno}"))?;
    let before = kernel::hardware_corrupted()?;
    let mut taken = 0;
    for scenario in SCENARIOS {
        println!("@@ {}", scenario.name);
        taken += scenario.run().map_err(|error| format!("{}: {error}", scenario.name))?;
    }
    let lost = kernel::hardware_corrupted()? - before;
    // Only the memory that this program took may be missing.
    if lost != taken {
        return Err(format!(
            "the kernel counts {lost} pages as HardwareCorrupted, but {taken} were taken from it"
        ));
    }
    println!("@@ the guest's kernel lost {lost} pages (HardwareCorrupted)");
    Ok(())
}
