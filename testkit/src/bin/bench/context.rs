//! Data and settings that all measurements share.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use testkit::Page;
use testkit::corpus::{Corpus, Kind, Statistics};

use crate::folder;

/// The amount of measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Enough for a report.
    Full,
    /// Enough to show that everything runs.
    Quick,
}

/// The data and the effort of a run.
pub(crate) struct Context {
    /// Real pages by kind.
    pub(crate) corpus: Corpus,
    /// Pages of all kinds: the disk content of most rows.
    pub(crate) mixed: Vec<Page>,
    /// Pages of each kind in `mixed`.
    pub(crate) each: usize,
    /// The amount of measuring.
    pub(crate) effort: Effort,
    /// The folder of the corpus.
    pub(crate) folder: PathBuf,
    /// The folder of the programs of this build.
    pub(crate) programs: PathBuf,
}

impl Context {
    /// Loads the corpus, or collects it.
    pub(crate) fn new(effort: Effort) -> Result<Self, Box<dyn Error>> {
        let folder = folder::corpus()?;
        let exe = std::env::current_exe()?;
        let programs =
            exe.parent().ok_or("the benchmark must run from a cargo target folder")?.to_owned();
        let corpus = Corpus::load_or_collect(&folder, &mut |line| eprintln!("{line}"))?;
        // 3 x 176 MiB is the smallest mix above 0.5 GiB with an equal share of each kind.
        let each = if effort == Effort::Full { 45_056 } else { 8_192 };
        let mixed = corpus.mixed(each);
        Ok(Self { corpus, mixed, each, effort, folder, programs })
    }

    /// Returns the lz4 statistics of each kind and of the mix, one line each.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines = self.corpus.notes.clone();
        for kind in Kind::ALL {
            lines.push(format!(
                "{:<8} {}",
                kind.name(),
                Statistics::measure(self.corpus.kind(kind))
            ));
        }
        let mixed = Statistics::measure(&self.mixed);
        lines.push(format!("{:<8} {mixed}", "mixed"));
        if !mixed.is_fit() {
            lines.push("THE PAGES DO NOT MEET THE RULES (>= 0.5 GiB, ratio 1.6 to 2.4, <= 10 % incompressible): do not quote these numbers".into());
        }
        lines
    }

    /// Returns the pages of one kind to measure with: all of them, or fewer in a quick run.
    pub(crate) fn kind(&self, kind: Kind) -> &[Page] {
        let pages = self.corpus.kind(kind);
        if self.effort == Effort::Full { pages } else { &pages[..pages.len().min(self.each * 2)] }
    }

    /// Returns the number of repetitions: `full`, or 2 in a quick run.
    pub(crate) fn repetitions(&self, full: usize) -> usize {
        if self.effort == Effort::Full { full } else { 2 }
    }

    /// Returns the divisor of long counts: 1, or 5 in a quick run.
    pub(crate) fn count_divisor(&self) -> usize {
        if self.effort == Effort::Full { 1 } else { 5 }
    }

    /// Returns the duration of a load.
    pub(crate) fn load_time(&self) -> Duration {
        Duration::from_millis(if self.effort == Effort::Full { 1000 } else { 300 })
    }
}

/// Prints what is being measured.
pub(crate) fn report_progress(what: &str) {
    eprintln!("measuring {what}");
}
