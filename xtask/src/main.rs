//! `cargo xtask`: the one command of the workspace. What a person runs and what CI runs are the same subcommands.
//!
//! Each subcommand is a file named after it; `check` is a folder with one file a rule.

#![forbid(unsafe_code)]

mod bench;
mod check;
mod ci;
mod e2e;
mod figures;
mod fuzz;
mod guest;
mod libnbd;
mod libtest;
mod model;
mod mutants;
mod packages;
mod setup;
mod shell;
mod soak;
mod test;
mod tree;

use clap::{Parser, Subcommand};

/// The house's own commands. CI runs `cargo xtask ci` and nothing else.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What `cargo xtask` can do.
#[derive(Subcommand)]
enum Command {
    /// Format, clippy, docs and the rules of the workspace (layers, file length, SAFETY text, ASCII, licences, links, requirements)
    Check(check::Args),
    /// All tests of the workspace: unit, integration, end to end with real clients, and documentation
    Test(test::Args),
    /// The end-to-end tests alone: real NBD clients against the memzip binary
    E2e(e2e::Args),
    /// Model checking with loom: every interleaving of the small protocols with at most two preemptions (or more: --preemptions)
    Loom(model::LoomArgs),
    /// Randomised scheduling with shuttle: whole pools under controlled threads
    Shuttle(model::Args),
    /// Take out each guard against a race, one at a time, and demand that the test that is there for it fails
    Mutants(mutants::Args),
    /// The unit tests of the layers that contain unsafe code, under Miri
    Miri,
    /// Fuzz one target, or all of them one after the other
    Fuzz(fuzz::Args),
    /// The benchmarks: memzip, its peers and the bare codecs in one run
    Bench(bench::Args),
    /// Measure what docs/benchmarks.md and the README quote, and put the output there
    Figures(figures::Args),
    /// Experiments in a real Linux guest: memzip beside the kernel's own zram, as swap space, under ext4, and with memory that fails
    Guest(guest::Args),
    /// Everything that moves, at once and for half an hour, every byte verified
    Soak(soak::Args),
    /// Everything CI wants to know, in order, with times
    Ci(ci::Args),
    /// Install the Debian packages the end-to-end tests drive (as root), or say which are missing
    Setup,
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
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
