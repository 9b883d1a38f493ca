//! `cargo xtask`: the commands of the workspace. Developers and CI run the same subcommands.
//!
//! Each subcommand is a file of its name; `check` is a folder with one file for each rule.

#![forbid(unsafe_code)]

mod packages;
mod tree;
mod modules;
mod blocks;
mod picture;
mod libnbd;
mod setup;
mod libtest;
mod test;
mod e2e;
mod model;
mod mutants;
mod fuzz;
mod bench;
mod figures;
mod soak;
mod guest;
mod check;
mod ci;

use clap::{Parser, Subcommand};

/// Commands of the workspace. CI runs only `cargo xtask ci`
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A subcommand of `cargo xtask`.
#[derive(Subcommand)]
enum Command {
    /// Check format, clippy, docs and the rules of the workspace (layers, file length, SAFETY
    /// comments, ASCII, licences, links, requirements)
    Check(check::Args),
    /// Draw the crates, and the modules of a crate, into ARCHITECTURE.md
    Picture,
    /// Run all tests: unit, integration, end-to-end with real clients, and documentation
    Test(test::Args),
    /// Run only the end-to-end tests: real NBD clients against the memzip binary
    E2e(e2e::Args),
    /// Model-check the small protocols with loom: every interleaving with at most two preemptions
    /// (or more: --preemptions)
    Loom(model::LoomArgs),
    /// Run whole pools under random but repeatable schedules with shuttle
    Shuttle(model::Args),
    /// Remove each guard against a race, one at a time, and require its test to fail
    Mutants(mutants::Args),
    /// Run the unit tests of the crates with unsafe code under Miri
    Miri,
    /// Fuzz one target, or all targets one after the other
    Fuzz(fuzz::Args),
    /// Run the benchmarks: memzip, its peers and the bare codecs in one run
    Bench(bench::Args),
    /// Measure the figures of docs/benchmarks.md and the README, and write them there
    Figures(figures::Args),
    /// Run experiments in a Linux guest: memzip and the kernel's own zram, swap, ext4, and memory
    /// failures
    Guest(guest::Args),
    /// Run all operations at once for half an hour and verify every byte
    Soak(soak::Args),
    /// Run everything that CI checks, in order, with times
    Ci(ci::Args),
    /// Install the Debian packages that the end-to-end tests use (as root), or list the missing
    /// ones
    Setup,
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Picture => picture::run(),
        Command::Test(args) => test::run(&args).and_then(test::Report::into_result),
        Command::E2e(args) => e2e::run(&args),
        Command::Loom(args) => model::loom(&args),
        Command::Shuttle(args) => model::shuttle(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Miri => model::miri(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Figures(args) => figures::run(&args),
        Command::Guest(args) => guest::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Setup => setup::run().map(|_| ()),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
