//! Memory that fails for real below a store in this process: the kernel takes frames of its arena away (`MADV_HWPOISON`,
//! `hard_offline_page`), or moves what is in them (`MADV_SOFT_OFFLINE`). Every page is verified afterwards, again and again (R-025, S-38).
//!
//! `cargo xtask guest memory-failure` builds it and runs it in a guest, as root: memory that has failed is lost to its kernel until the next boot. It
//! tells the host what it does in lines that begin with `@@`.

#![forbid(unsafe_code)]

mod content;
mod disk;
mod kernel;
mod scenario;

use std::process::ExitCode;

use kernel::FailureMode;
use scenario::Scenario;
use sys::Backing;
use sys::memory_failure::catch_memory_failures;

/// What went wrong, in words.
type TestResult<T> = Result<T, String>;

/// Both kinds of arena, and all ways in which the kernel tells of a failure.
const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "anonymous memory, MADV_HWPOISON",
        backing: Backing::Anonymous,
        mode: FailureMode::Madvise,
    },
    Scenario {
        name: "anonymous memory, told on access",
        backing: Backing::Anonymous,
        mode: FailureMode::OnAccess,
    },
    Scenario {
        name: "anonymous memory, told early",
        backing: Backing::Anonymous,
        mode: FailureMode::AtOnce,
    },
    Scenario {
        name: "memory file, MADV_HWPOISON",
        backing: Backing::Memfd,
        mode: FailureMode::Madvise,
    },
    Scenario {
        name: "memory file, told on access",
        backing: Backing::Memfd,
        mode: FailureMode::OnAccess,
    },
    Scenario {
        name: "memory file, told early",
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
    catch_memory_failures().map_err(|errno| format!("no handler: {errno}"))?;
    let before = kernel::hardware_corrupted()?;
    let mut taken = 0;
    for scenario in SCENARIOS {
        println!("@@ {}", scenario.name);
        taken += scenario.run().map_err(|error| format!("{}: {error}", scenario.name))?;
    }
    let lost = kernel::hardware_corrupted()? - before;
    if lost != taken {
        return Err(format!(
            "the kernel counts {lost} pages as HardwareCorrupted, and {taken} were taken from it"
        ));
    }
    println!("@@ the guest's kernel has {lost} pages less (HardwareCorrupted)");
    Ok(())
}
