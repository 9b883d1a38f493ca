//! The benchmark: every promise the project makes about speed and density, measured against its peers in the same run.
//!
//! The rules, so that the numbers mean something: the data are real pages of this machine; the bare codec is the very
//! function the store calls, on the same pages in the same order; live bytes are summed up outside the store; resident memory is the kernel's count;
//! peers take turns with us, and medians are compared; everything written is read back and compared.

#![forbid(unsafe_code)]

mod allocators;
mod codec;
mod compaction;
mod context;
mod density;
mod disk;
mod hot;
mod inprocess;
mod kernel;
mod nbd;
mod nbd_load;
mod report;
mod residence;
mod row;
mod servers;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use context::{Context, Effort, Outcome};
use row::{Row, Verdict};

/// Measures memzip against the bare codec, malloc, kernel zram and nbdkit in one run
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// A short run that shows whether everything works; its numbers are not for quoting
    #[arg(long)]
    quick: bool,
    /// Measure only this group of rows; may be given several times
    #[arg(long, value_enum, value_name = "GROUP")]
    only: Vec<Group>,
    /// End with status 1 when a row is not met or could not be measured
    #[arg(long)]
    strict: bool,
    /// Where the numbers go for programs; by default bench.json beside the build products
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Put a load of real pages on any NBD server
    NbdLoad(nbd_load::Args),
}

/// Rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Fill, random overwrite and random read in process, against the bare codec
    Inprocess,
    /// Small writes with a cache of hot pages and without
    Hot,
    /// Fill, overwrite and read against the kernel's zram
    Kernel,
    /// Live bytes over memory held
    Density,
    /// Object compaction: gain, time, background
    Compaction,
    /// Blobs in the pool against blobs in malloc
    Allocators,
    /// Resident memory of the server
    Memory,
    /// Resident memory after random overwrites
    Aging,
    /// Requests a second over NBD
    Nbd,
    /// Read latency beside a flood of writes
    Latency,
}

impl Group {
    fn measure(self, context: &Context) -> Outcome {
        match self {
            Self::Inprocess => inprocess::run(context),
            Self::Hot => hot::run(context),
            Self::Kernel => kernel::run(context),
            Self::Density => density::run(context),
            Self::Compaction => compaction::run(context),
            Self::Allocators => allocators::run(context),
            Self::Memory => residence::memory(context),
            Self::Aging => residence::aging(context),
            Self::Nbd => nbd::throughput(context),
            Self::Latency => nbd::latency(context),
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
    let corpus = context.describe();
    println!("{}\n{}\n", report::machine(), corpus.join("\n"));
    let mut rows = Vec::new();
    for &group in Group::value_variants() {
        if !cli.only.is_empty() && !cli.only.contains(&group) {
            continue;
        }
        match group.measure(&context) {
            Ok(mut measured) => rows.append(&mut measured),
            Err(error) => rows.push(Row::without(format!("{group:?}"), Verdict::Failed, chain(&*error))),
        }
    }
    report::print(&rows);
    if cli.quick {
        println!("A QUICK RUN on a small disk: these numbers show that everything runs, and are not for quoting");
    }
    let json = cli.json.clone().map_or_else(|| target_folder().map(|folder| folder.join("bench.json")), Ok)?;
    report::write(&json, &rows, &corpus, cli.quick)?;
    println!("written to {}", json.display());
    Ok(status(&rows, cli.strict))
}

/// A failed measurement always counts; a promise not kept only when asked.
fn status(rows: &[Row], strict: bool) -> ExitCode {
    let bad = |row: &Row| match row.verdict() {
        Verdict::Failed => true,
        Verdict::NotMet | Verdict::Skipped => strict,
        Verdict::Met | Verdict::Info => false,
    };
    if rows.iter().any(bad) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The cargo target folder this program was built into.
fn target_folder() -> Result<PathBuf, Box<dyn Error>> {
    let exe = std::env::current_exe()?;
    Ok(exe.ancestors().nth(2).ok_or("the benchmark must run from a cargo target folder")?.to_owned())
}

/// Where the corpus is kept: beside the build products, which nobody publishes.
fn corpus_folder() -> Result<PathBuf, Box<dyn Error>> {
    Ok(target_folder()?.join("corpus"))
}
