//! `memzip lab`: the experiments of the original series, in this process, on pages of real files.
//!
//! | | what | source of the original's figures |
//! |---|---|---|
//! | e1 | object compaction after random discards | [`original::E1`] |
//! | e2 | a little ageing, both compactions | [`original::E2`] |
//! | e3 | frame compaction after eight parallel writers, movable against not | [`original::E3_OLD`], [`original::E3_NEW`] |
//! | e4 | what the way through a handle, the metadata and the class locks cost | none were published |
//! | e5 | allocation of neighbouring frames among scattered zspages, movable against not | none were published |
//!
//! Everything is measured in the run that prints it; what is left on the disks is read back and compared before anything is printed.

mod cache;
mod disk;
mod e1;
mod e2;
mod e3;
mod e4;
mod e5;
mod free;
mod original;
mod pages;
mod rng;
mod scarce;
mod table;
mod writers;

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

/// Where pages are taken from when no path is named.
const DEFAULT_PATH: &str = "/usr";
/// The least an experiment makes sense with. Units: bytes.
const SMALLEST: u64 = 4 << 20;

/// What all experiments are given.
#[derive(Debug)]
struct Lab {
    pages: Pages,
    algorithm: Algorithm,
    seed: u64,
    chain: u8,
    rule: ChainRule,
}

impl Lab {
    /// A disk for the pages, apart from its size.
    fn config(&self) -> ZramConfig {
        ZramConfig {
            algorithm: self.algorithm,
            chain: self.chain,
            rule: self.rule,
            ..ZramConfig::new(Bytes((self.pages.len() * PAGE) as u64))
        }
    }
}

/// Runs one experiment; the result is what is printed.
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
    let usual = match args.experiment {
        Experiment::E1 | Experiment::E2 | Experiment::E4 | Experiment::E5 => 512 << 20,
        Experiment::E3 => 1 << 30,
    };
    let size = args.size.map_or(usual, |size| size.0);
    ensure!(
        size >= SMALLEST,
        "{} is too little for an experiment: at least {}",
        human(size),
        human(SMALLEST)
    );
    // The pages stay in memory beside the disk, which takes less than they do; E-4 also has them in
    // slots and in a buffer.
    let needed = size.saturating_mul(if args.experiment == Experiment::E4 { 4 } else { 2 });
    let free =
        sys::host::available_memory().into_iter().chain(sys::host::cgroup_memory_limit()).min();
    if let Some(free) = free.filter(|&free| free < needed) {
        bail!(
            "an experiment with {} needs {} of memory and {} is free: choose a smaller --size",
            human(size),
            human(needed),
            human(free)
        );
    }
    let default = [PathBuf::from(DEFAULT_PATH)];
    let paths = if args.paths.is_empty() { &default[..] } else { &args.paths };
    Pages::load(paths, usize::try_from(size).unwrap_or(usize::MAX) / PAGE)
}

/// What is told of every experiment.
fn setup(lab: &Lab) -> Vec<(&'static str, String)> {
    let (pages, distinct) = (lab.pages.len(), lab.pages.distinct());
    let mut content =
        format!("{} pages of real files, {}", grouped(pages as u64), human((pages * PAGE) as u64));
    if distinct < pages {
        content += &format!(" ({} different ones, repeated)", grouped(distinct as u64));
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
