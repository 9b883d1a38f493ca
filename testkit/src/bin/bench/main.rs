//! The benchmark: every target for speed and density, measured against the peers in the same run.
//!
//! Rules:
//! - The data are real pages of this machine.
//! - The bare codec is the function that the store calls, on the same pages in the same order.
//! - Live bytes are added up outside the store. Resident memory is the kernel's count.
//! - Peers take turns with memzip. The table compares the median of the turns' ratios, with its
//!   interval.
//! - Everything written is read back and compared.
//! - A row whose bound lies inside its interval or inside the machine's noise is "too noisy".
//! - Every number of the table was measured in the run that prints it.

#![forbid(unsafe_code)]

mod folder;
mod unit;
mod samples;
mod codec;
mod context;
mod noise;
mod row;
mod report;
mod disk;
mod zram_device;
mod tracked_disk;
mod servers;
mod fio;
mod nbd_load;
mod nbd_peers;
mod nbd;
mod nbd_latency;
mod inprocess;
mod hot;
mod kernel;
mod density;
mod compaction;
mod allocators;
mod residence;
mod comeback;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use context::{Context, Effort};
use noise::Noise;
use report::Report;
use row::{GroupResult, Row, Verdict};

/// Measures memzip against the bare codec, malloc, kernel zram, nbdkit and qemu-nbd in one run
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Measure briefly, to show that everything works; the numbers are not for quoting
    #[arg(long)]
    quick: bool,
    /// Measure only this group of rows; can be given several times
    #[arg(long, value_enum, value_name = "GROUP")]
    only: Vec<Group>,
    /// Print only the table, as Markdown: `cargo xtask figures` copies it into docs/benchmarks.md
    #[arg(long)]
    markdown: bool,
    /// Exit with status 1 unless every row is met
    #[arg(long)]
    strict: bool,
    /// Path of the JSON report; the default is bench.json in the build folder
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Put a load of real pages on any NBD server
    NbdLoad(nbd_load::Args),
}

/// A group of rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Fill, random overwrite and random read in process, against the bare codec
    Inprocess,
    /// Small writes with and without a cache of hot pages
    Hot,
    /// Overwrite and read against the kernel's zram, in process and over NBD
    Kernel,
    /// Live bytes over memory held
    Density,
    /// Object compaction: gain, time, background
    Compaction,
    /// Blobs in the pool against blobs in malloc
    Allocators,
    /// Resident memory of the server
    Memory,
    /// Resident memory after random trims
    Comeback,
    /// Resident memory after random overwrites
    Aging,
    /// Requests a second over NBD, against nbdkit and qemu-nbd, with this load generator and fio
    Nbd,
    /// Read latency during a flood of writes
    Latency,
}

impl Group {
    fn measure(self, context: &Context) -> GroupResult {
        match self {
            Self::Inprocess => inprocess::run(context),
            Self::Hot => hot::run(context),
            Self::Kernel => kernel::run(context),
            Self::Density => density::run(context),
            Self::Compaction => compaction::run(context),
            Self::Allocators => allocators::run(context),
            Self::Memory => residence::memory(context),
            Self::Comeback => comeback::run(context),
            Self::Aging => residence::aging(context),
            Self::Nbd => nbd::throughput(context),
            Self::Latency => nbd_latency::latency(context),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::NbdLoad(args)) => nbd_load::run(args).map(|()| ExitCode::SUCCESS),
        None => run(&cli),
    };
    done.unwrap_or_else(|error| {
        eprintln!("bench: {}", chain(&*error));
        ExitCode::FAILURE
    })
}

fn run(cli: &Cli) -> Result<ExitCode, Box<dyn Error>> {
    let context = Context::new(if cli.quick { Effort::Quick } else { Effort::Full })?;
    let mut report = Report {
        machine: report::machine(),
        corpus: context.describe(),
        noise: Noise::default(),
        rows: Vec::new(),
        caveat: if cli.quick { QUICK } else { "" },
    };
    if !cli.markdown {
        println!("{}\n{}\n", report.machine, report.corpus.join("\n"));
    }
    report.noise.measure(&context)?;
    // A group that fails becomes a row, so that the other groups are still measured.
    for &group in Group::value_variants() {
        if !cli.only.is_empty() && !cli.only.contains(&group) {
            continue;
        }
        match group.measure(&context) {
            Ok(mut measured) => report.rows.append(&mut measured),
            Err(error) => report.rows.push(Row::without(
                format!("{group:?}"),
                Verdict::Failed,
                chain(&*error),
            )),
        }
    }
    report.noise.measure(&context)?;
    print!("{}", if cli.markdown { report.markdown() } else { report.text() });
    let json = cli
        .json
        .clone()
        .map_or_else(|| folder::target().map(|folder| folder.join("bench.json")), Ok)?;
    report.write(&json)?;
    eprintln!("written to {}", json.display());
    Ok(status(&report, cli.strict))
}

/// The caveat of a report of a quick run.
const QUICK: &str =
    "A QUICK RUN on a small disk: these numbers only show that everything runs; do not quote them";

/// Returns the exit status. A failed measurement always fails; a row that is not met fails only
/// with `--strict`.
fn status(report: &Report, strict: bool) -> ExitCode {
    let bad = |row: &Row| match row.verdict(&report.noise) {
        Verdict::Failed => true,
        Verdict::NotMet | Verdict::TooNoisy | Verdict::Skipped => strict,
        Verdict::Met | Verdict::Info => false,
    };
    if report.rows.iter().any(bad) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Returns an error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
