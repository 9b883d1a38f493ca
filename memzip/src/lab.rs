//! `memzip lab`: the experiments of the original series, run in this process on pages of real
//! files.
//!
//! | | what | original figures |
//! |---|---|---|
//! | e1 | object compaction after random discards | [`original::E1`] |
//! | e2 | a little ageing, both compactions | [`original::E2`] |
//! | e3 | frame compaction after parallel writes | [`original::E3_OLD`], [`original::E3_NEW`] |
//! | e4 | costs of handles, metadata and class locks | not published |
//! | e5 | contiguous allocation among scattered zspages | not published |
//!
//! E-3 and E-5 run with movable and with unmovable frames.
//!
//! Everything is measured in the run that prints it. The remaining content of the disks is read
//! back and compared before anything is printed.

mod rng;
mod free;
mod original;
mod pages;
mod cache;
mod disk;
mod writers;
mod scarce;
mod table;
mod e1;
mod e2;
mod e3;
mod e4;
mod e5;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use block::Bytes;
use zcomp::Algorithm;
use zram::{ChainRule, ZramConfig};

use crate::cli::{self, Experiment};
use crate::corpus::PAGE;
use crate::output::Format;
use crate::sizes::{grouped, human};
use pages::Pages;
use table::Report;

/// Default path of files to take pages from.
const DEFAULT_PATH: &str = "/usr";
/// Smallest size of an experiment. Units: bytes.
const SMALLEST: u64 = 4 << 20;

/// Input of all experiments.
#[derive(Debug)]
struct Lab {
    pages: Pages,
    algorithm: Algorithm,
    seed: u64,
    chain: u8,
    rule: ChainRule,
}

impl Lab {
    /// Returns the configuration of a disk as large as the pages.
    fn config(&self) -> ZramConfig {
        ZramConfig {
            algorithm: self.algorithm,
            chain: self.chain,
            rule: self.rule,
            ..ZramConfig::new(Bytes((self.pages.len() * PAGE) as u64))
        }
    }
}

/// Runs one experiment and returns its report as text to print.
///
/// # Errors
/// The experiment cannot run, or a byte did not match.
pub(crate) fn run(args: &cli::Lab) -> Result<String> {
    let report = measure(args)?;
    match args.format() {
        Format::Json => {
            Ok(serde_json::to_string_pretty(&report).context("cannot write JSON")? + "\n")
        }
        Format::Table => Ok(report.to_string()),
    }
}

fn measure(args: &cli::Lab) -> Result<Report> {
    let lab = Lab {
        pages: load(args)?,
        algorithm: args.algorithm,
        seed: args.seed,
        chain: args.chain,
        rule: args.rule.into(),
    };
    match args.experiment {
        Experiment::E1 => e1::run(&lab),
        Experiment::E2 => e2::run(&lab),
        Experiment::E3 => e3::run(&lab),
        Experiment::E4 => e4::run(&lab),
        Experiment::E5 => e5::run(&lab),
    }
}

fn load(args: &cli::Lab) -> Result<Pages> {
    let default_size = match args.experiment {
        Experiment::E1 | Experiment::E2 | Experiment::E4 | Experiment::E5 => 512 << 20,
        Experiment::E3 => 1 << 30,
    };
    let size = args.size.map_or(default_size, |size| size.0);
    ensure!(
        size >= SMALLEST,
        "a size of {} is too little for an experiment: use at least {}",
        human(size),
        human(SMALLEST)
    );
    // The pages stay in memory beside the disk, which takes less than they do. E-4 also has them in
    // slots and in a buffer.
    let needed = size.saturating_mul(if args.experiment == Experiment::E4 { 4 } else { 2 });
    let free =
        sys::host::available_memory().into_iter().chain(sys::host::cgroup_memory_limit()).min();
    if let Some(free) = free.filter(|&free| free < needed) {
        bail!(
            "an experiment with {} needs {} of memory, and {} is free: choose a smaller --size",
            human(size),
            human(needed),
            human(free)
        );
    }
    let default = [PathBuf::from(DEFAULT_PATH)];
    let paths = if args.paths.is_empty() { &default[..] } else { &args.paths };
    Pages::load(paths, usize::try_from(size).unwrap_or(usize::MAX) / PAGE)
}

/// Returns the setup of the report, as names and values.
fn setup(lab: &Lab) -> Vec<(&'static str, String)> {
    let (pages, distinct) = (lab.pages.len(), lab.pages.distinct());
    let mut content =
        format!("{} pages of real files, {}", grouped(pages as u64), human((pages * PAGE) as u64));
    if distinct < pages {
        content += &format!(" ({} distinct ones, repeated)", grouped(distinct as u64));
    }
    let rule = match lab.rule {
        ChainRule::LeastWaste => "least waste",
        ChainRule::UsedPercent => "used percent",
    };
    vec![
        ("content", content),
        ("algorithm", lab.algorithm.to_string()),
        ("seed", lab.seed.to_string()),
        ("zspages", format!("at most {} frames, {rule}", lab.chain)),
    ]
}
