//! What all measurements share.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use testkit::Page;
use testkit::corpus::{Corpus, Kind, Statistics};

use crate::row::Row;

/// What a group of measurements gives back.
pub type GroupResult = Result<Vec<Row>, Box<dyn Error>>;

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough for a report.
    Full,
    /// Enough to see that everything runs.
    Quick,
}

/// The data and the effort.
pub struct Context {
    /// Real pages by kind.
    pub corpus: Corpus,
    /// All kinds together: the disk most rows work on.
    pub mixed: Vec<Page>,
    /// Pages of each kind in `mixed`.
    pub each: usize,
    /// How much to measure.
    pub effort: Effort,
    /// Where the corpus is kept.
    pub folder: PathBuf,
    /// Where the programs of the same build are.
    pub programs: PathBuf,
}

impl Context {
    /// Loads or collects the corpus.
    pub fn new(effort: Effort) -> Result<Self, Box<dyn Error>> {
        let folder = crate::corpus_folder()?;
        let exe = std::env::current_exe()?;
        let programs =
            exe.parent().ok_or("the benchmark must run from a cargo target folder")?.to_owned();
        let corpus = Corpus::load_or_collect(&folder, &mut |line| eprintln!("{line}"))?;
        // 3 x 176 MiB is the smallest mix above half a GiB that gives each kind the same weight.
        let each = if effort == Effort::Full { 45_056 } else { 8_192 };
        let mixed = corpus.mixed(each);
        Ok(Self { corpus, mixed, each, effort, folder, programs })
    }

    /// One line for each kind and the mix: how well lz4 does, and the histogram.
    pub fn describe(&self) -> Vec<String> {
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
            lines.push("THE MIX DOES NOT MEET THE RULES (>= 0.5 GiB, ratio 1.6 to 2.4, <= 10 % incompressible): do not quote these numbers".into());
        }
        lines
    }

    /// Returns the pages of one kind to measure with: all there are, or some when in a hurry.
    pub fn kind(&self, kind: Kind) -> &[Page] {
        let pages = self.corpus.kind(kind);
        if self.effort == Effort::Full { pages } else { &pages[..pages.len().min(self.each * 2)] }
    }

    /// `full` repetitions, or two when in a hurry.
    pub fn repetitions(&self, full: usize) -> usize {
        if self.effort == Effort::Full { full } else { 2 }
    }

    /// What to divide long counts by.
    pub fn count_divisor(&self) -> usize {
        if self.effort == Effort::Full { 1 } else { 5 }
    }

    /// How long a load lasts.
    pub fn load_time(&self) -> Duration {
        Duration::from_millis(if self.effort == Effort::Full { 1000 } else { 300 })
    }
}

/// Tells the person who waits what is going on.
pub fn report_progress(what: &str) {
    eprintln!("measuring {what}");
}
