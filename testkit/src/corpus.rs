//! Real 4 KiB pages of this machine.
//!
//! Generated data misleads about compressors: fio's "55 % compressible" pages are nearly three
//! times easier for lz4 than real ones. So every page here comes from a file or a process of this
//! machine: text, machine code, and the resident anonymous memory of programs that were started
//! for the corpus and fed real files. Repeated pages and pages of one repeated word are dropped,
//! because they cost a store nothing. Missing data is not replaced: the set is then smaller, and
//! [`Corpus::notes`] says so.
//!
//! Collecting takes most of a minute, so the pages are cached in files. Only their owner can read
//! them, because they contain process memory.

mod cache;
mod files;
mod memory;
mod programs;
mod statistics;
mod thin;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub use files::files_below;
pub use statistics::Statistics;

use crate::Page;

/// The source of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files without zero bytes: documentation, headers, sources.
    Text,
    /// ELF programs and libraries.
    Binaries,
    /// Resident anonymous pages of running programs.
    Memory,
}

impl Kind {
    /// All kinds, in the order of a mixed set.
    pub const ALL: [Self; 3] = [Self::Text, Self::Binaries, Self::Memory];

    /// Returns a lower-case word for tables and file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binaries => "binaries",
            Self::Memory => "memory",
        }
    }

    /// Returns how many pages of this kind to collect: as many as the reference measurements of
    /// the kernel's zram had, because density depends on size.
    #[must_use]
    pub fn wanted(self) -> usize {
        match self {
            Self::Text | Self::Binaries => 65_536,
            Self::Memory => 125_952,
        }
    }
}

/// An error while loading or saving a corpus.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The cache could not be read or written.
    #[error("corpus file {path}")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// Real pages by kind.
#[derive(Debug, Default)]
pub struct Corpus {
    /// Pages of text files.
    pub text: Vec<Page>,
    /// Pages of ELF files.
    pub binaries: Vec<Page>,
    /// Pages of process memory.
    pub memory: Vec<Page>,
    /// The data that this machine lacks, one sentence each.
    pub notes: Vec<String>,
}

impl Corpus {
    /// Loads the corpus cached in `folder`, or collects one and caches it there. Passes progress
    /// messages to `progress`.
    ///
    /// # Errors
    /// [`CorpusError`] when the folder cannot be used. Missing data is no error: see
    /// [`Corpus::notes`].
    pub fn load_or_collect(
        folder: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, CorpusError> {
        if let Some(kept) = cache::load(folder)? {
            return Ok(kept);
        }
        let corpus = Self::collect(progress);
        cache::save(folder, &corpus)?;
        Ok(corpus)
    }

    /// Loads the corpus cached in `folder`; returns `None` when there is none.
    ///
    /// # Errors
    /// [`CorpusError`] when the corpus exists and cannot be read.
    pub fn load(folder: &Path) -> Result<Option<Self>, CorpusError> {
        cache::load(folder)
    }

    fn collect(progress: &mut dyn FnMut(&str)) -> Self {
        let mut seen = HashSet::new();
        let mut corpus = Self::default();
        for kind in [Kind::Text, Kind::Binaries] {
            progress(&format!("collecting {} pages of {}", kind.wanted(), kind.name()));
            let pages = files::collect(kind, kind.wanted(), &mut seen);
            corpus.note_shortage(kind, pages.len());
            *corpus.kind_mut(kind) = pages;
        }
        let wanted = Kind::Memory.wanted();
        progress(&format!(
            "collecting {wanted} pages of process memory from programs started for it"
        ));
        let (pages, mut notes) = memory::collect(wanted, &mut seen, &corpus.text, progress);
        corpus.notes.append(&mut notes);
        corpus.note_shortage(Kind::Memory, pages.len());
        corpus.memory = pages;
        corpus
    }

    fn note_shortage(&mut self, kind: Kind, found: usize) {
        let wanted = kind.wanted();
        if found < wanted {
            self.notes.push(format!(
                "only {found} of {wanted} pages of {} are on this machine",
                kind.name()
            ));
        }
    }

    /// Returns the pages of one kind, in the order of their files.
    #[must_use]
    pub fn kind(&self, kind: Kind) -> &[Page] {
        match kind {
            Kind::Text => &self.text,
            Kind::Binaries => &self.binaries,
            Kind::Memory => &self.memory,
        }
    }

    fn kind_mut(&mut self, kind: Kind) -> &mut Vec<Page> {
        match kind {
            Kind::Text => &mut self.text,
            Kind::Binaries => &mut self.binaries,
            Kind::Memory => &mut self.memory,
        }
    }

    /// Returns `each` pages of every kind (fewer where there are fewer), kind after kind. The
    /// pages are taken in runs, evenly spaced over the kind.
    #[must_use]
    pub fn mixed(&self, each: usize) -> Vec<Page> {
        let thinned = |kind| {
            let pages = self.kind(kind);
            thin::runs(pages.len(), each).into_iter().flat_map(|run| pages[run].iter().cloned())
        };
        Kind::ALL.into_iter().flat_map(thinned).collect()
    }
}
