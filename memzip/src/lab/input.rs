//! The input of all experiments: pages of real files, and how disks store them.

use anyhow::{Result, bail, ensure};
use block::Bytes;
use zram::{ChainRule, ZramConfig};

use super::pages::Pages;
use super::table::Report;
use crate::cli::{self, Experiment};
use crate::corpus::PAGE;
use crate::sizes::{grouped, human};

/// Smallest size of an experiment. Units: bytes.
const SMALLEST: u64 = 4 << 20;

/// Input of all experiments.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) pages: Pages,
    /// How disks store the pages; their size is that of the pages.
    pub(super) config: ZramConfig,
    pub(super) seed: u64,
}

impl Lab {
    /// Loads the pages that `args` names.
    ///
    /// # Errors
    /// There are no pages, or too little memory for the experiment.
    pub(super) fn load(args: &cli::Lab) -> Result<Self> {
        let default_size = if args.experiment == Experiment::E3 { 1 << 30 } else { 512 << 20 };
        let size = args.size.map_or(default_size, |size| size.0);
        let [shown, least] = [size, SMALLEST].map(human);
        ensure!(
            size >= SMALLEST,
            "a size of {shown} is too little for an experiment: use at least {least}"
        );
        // The pages stay in memory beside the disk, which takes less than they do. E-4 also has
        // them in slots and in a buffer.
        let needed = size.saturating_mul(if args.experiment == Experiment::E4 { 4 } else { 2 });
        let free =
            sys::host::available_memory().into_iter().chain(sys::host::cgroup_memory_limit()).min();
        if let Some(free) = free.filter(|&free| free < needed) {
            let [needed, free] = [needed, free].map(human);
            bail!(
                "an experiment with {shown} needs {needed} of memory, and {free} is free: choose a smaller --size"
            );
        }
        let pages = Pages::load(&args.paths, usize::try_from(size).unwrap_or(usize::MAX) / PAGE)?;
        let cli::Lab { algorithm, chain, rule, seed, .. } = *args;
        let config = ZramConfig { algorithm, chain, rule, ..ZramConfig::new(Bytes(size)) };
        Ok(Self { pages, config, seed })
    }

    /// Returns a report without results.
    pub(super) fn report(&self, experiment: &'static str, title: &'static str) -> Report {
        let ZramConfig { algorithm, chain, rule, .. } = self.config;
        let (pages, distinct) = (self.pages.len(), self.pages.distinct());
        let (count, size) = (grouped(pages as u64), human((pages * PAGE) as u64));
        let mut content = format!("{count} pages of real files, {size}");
        if distinct < pages {
            content += &format!(" ({} distinct ones, repeated)", grouped(distinct as u64));
        }
        let rule = match rule {
            ChainRule::LeastWaste => "least waste",
            ChainRule::UsedPercent => "used percent",
        };
        let setup = vec![
            ("content", content),
            ("algorithm", algorithm.to_string()),
            ("seed", self.seed.to_string()),
            ("zspages", format!("at most {chain} frames, {rule}")),
        ];
        Report { experiment, title, setup, ..Report::default() }
    }
}
