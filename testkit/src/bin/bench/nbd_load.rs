//! `bench nbd-load`: the load generator against any NBD server.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use nbd_client::{Connection, Target};
use testkit::corpus::Corpus;
use testkit::nbd::{Check, DiskModel, Load, Report, Workload};

/// An operation of the command line.
#[derive(Clone, Copy, ValueEnum)]
enum Operation {
    /// Random reads of single pages
    Read,
    /// Random writes of single real pages
    Write,
    /// Fill the disk, read it back, overwrite every page once in random order, and read it back
    Verify,
}

/// Options of `bench nbd-load`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// nbd://HOST:PORT, nbd+unix:///?socket=PATH or the path of a unix socket.
    /// THE CONTENT OF THE DISK IS OVERWRITTEN
    target: String,
    /// The operation
    #[arg(long, value_enum, default_value = "read")]
    work: Operation,
    /// Number of connections, each with its own thread
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 32)]
    depth: u16,
    /// Duration of reading or writing
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Compare every page that is read with what was written
    #[arg(long)]
    check: bool,
    /// Folder of the corpus; created if it does not exist
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Pages of each kind to use
    #[arg(long, default_value_t = 45_056)]
    pages: usize,
}

/// Runs the load and prints the results.
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let target: Target = args.target.parse()?;
    let folder = args.corpus.clone().map_or_else(crate::folder::corpus, Ok)?;
    let pages =
        Corpus::load_or_collect(&folder, &mut |line| eprintln!("{line}"))?.mixed(args.pages);
    // Fill the disk, so that every page has known content.
    let model = DiskModel::new(&pages, Connection::<()>::open(&target)?.export().size);
    print("fill", &Load::whole_disk(&target, Workload::Fill).run(&model)?);
    let check = if args.check { Check::Content } else { Check::Length };
    let mut load = Load {
        connections: args.connections.max(1),
        depth: args.depth.max(1),
        check,
        time: Duration::try_from_secs_f64(args.seconds)?,
        ..Load::whole_disk(&target, Workload::RandomReads)
    };
    // Run the chosen load, then read everything back.
    match args.work {
        Operation::Read => print("random read", &load.run(&model)?),
        Operation::Write => {
            load.work = Workload::RandomWrites;
            print("random write", &load.run(&model)?);
        }
        Operation::Verify => {
            print("read back", &Load::whole_disk(&target, Workload::ReadAll).run(&model)?);
            load.work = Workload::Overwrite;
            print("overwrite", &load.run(&model)?);
        }
    }
    print("read back", &Load::whole_disk(&target, Workload::ReadAll).run(&model)?);
    Ok(())
}

fn print(what: &str, report: &Report) {
    let micros = |percent| report.latency.percentile(percent).as_secs_f64() * 1e6;
    println!(
        "{what:<12} {:>9} requests in {:>7.3} s = {:>8.0}/s, latency p50 {:>7.1} us, p99 {:>8.1} us",
        report.requests,
        report.elapsed.as_secs_f64(),
        report.rate(),
        micros(50.0),
        micros(99.0)
    );
}
