//! Memory that fails for real below a store in this process: the kernel takes frames of its arena away (`MADV_HWPOISON`,
//! `hard_offline_page`), or moves what is in them (`MADV_SOFT_OFFLINE`). Every page is verified afterwards, again and again (R-025, S-38).
//!
//! `cargo xtask guest memory-failure` builds it and runs it in a guest, as root: memory that has failed is lost to its kernel until the next boot. It
//! tells the host what it does in lines that begin with `@@`.

#![forbid(unsafe_code)]

mod content;
mod disk;
mod kernel;
mod round;

use std::process::ExitCode;

use kernel::Way;
use round::Round;
use sys::Backing;
use sys::memory_failure::catch_memory_failures;

/// What went wrong, in words.
type Outcome<T> = Result<T, String>;

/// Both kinds of arena, and all ways in which the kernel tells of a failure.
const ROUNDS: [Round; 6] = [
    Round {
        name: "anonymous memory, MADV_HWPOISON",
        backing: Backing::Anonymous,
        way: Way::Madvise,
    },
    Round {
        name: "anonymous memory, told on access",
        backing: Backing::Anonymous,
        way: Way::OnAccess,
    },
    Round { name: "anonymous memory, told early", backing: Backing::Anonymous, way: Way::AtOnce },
    Round { name: "memory file, MADV_HWPOISON", backing: Backing::Memfd, way: Way::Madvise },
    Round { name: "memory file, told on access", backing: Backing::Memfd, way: Way::OnAccess },
    Round { name: "memory file, told early", backing: Backing::Memfd, way: Way::AtOnce },
];

fn main() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("@@ failed {error}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> Outcome<()> {
    catch_memory_failures().map_err(|errno| format!("no handler: {errno}"))?;
    let before = kernel::hardware_corrupted()?;
    let mut taken = 0;
    for round in ROUNDS {
        println!("@@ {}", round.name);
        taken += round.play().map_err(|error| format!("{}: {error}", round.name))?;
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
