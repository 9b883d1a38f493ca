//! The input of all experiments: pages of real files, and how disks store them.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use block::Bytes;
use zcomp::Algorithm;
use zram::{ChainRule, ZramConfig};

use super::pages::Pages;
use super::table::Report;
use crate::cli::{self, Experiment};
use crate::corpus::PAGE;
use crate::sizes::{grouped, human};

/// Default path of files to take pages from.
const DEFAULT_PATH: &str = "/usr";
/// Smallest size of an experiment. Units: bytes.
const SMALLEST: u64 = 4 << 20;

/// Input of all experiments.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) pages: Pages,
    pub(super) algorithm: Algorithm,
    pub(super) seed: u64,
    pub(super) chain: u8,
    pub(super) rule: ChainRule,
}

impl Lab {
    /// Loads the pages that `args` names.
    ///
    /// # Errors
    /// There are no pages, or too little memory for the experiment.
    pub(super) fn load(args: &cli::Lab) -> Result<Self> {
        Ok(Self {
            pages: load(args)?,
            algorithm: args.algorithm,
            seed: args.seed,
            chain: args.chain,
            rule: args.rule.into(),
        })
    }

    /// Returns a report without results.
    pub(super) fn report(&self, experiment: &'static str, title: &'static str) -> Report {
        Report {
            experiment,
            title,
            setup: setup(self),
            tables: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
            verified_pages: 0,
        }
    }

    /// Returns the configuration of a disk as large as the pages.
    pub(super) fn config(&self) -> ZramConfig {
        ZramConfig {
            algorithm: self.algorithm,
            chain: self.chain,
            rule: self.rule,
            ..ZramConfig::new(Bytes((self.pages.len() * PAGE) as u64))
        }
    }
}

/// Runs `work`; returns its result and its duration in seconds.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let clock = Instant::now();
    let result = work();
    (result, clock.elapsed().as_secs_f64())
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
