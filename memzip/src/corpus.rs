//! Files of this machine as content: which ones, and their bytes in order, each from a new page.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Take};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use walkdir::WalkDir;

use crate::output;

/// Size of a page. Units: bytes.
pub(crate) const PAGE: usize = frames::FRAME_SIZE;
/// Maximum number of files to list; the sample is taken from these.
const MAX_FILES: usize = 500_000;

/// A file and the number of its bytes to load.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    len: u64,
}

/// A selection of files.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    sources: Vec<Source>,
    /// Number of selected files.
    pub(crate) files: u64,
    /// Bytes of all selected files, each rounded up to whole pages.
    pub(crate) bytes: u64,
    /// Files of the sample left out because they cannot be opened.
    pub(crate) unreadable: u64,
}

impl Corpus {
    /// Selects regular files under these paths, at most `limit` bytes. If there are more, it takes
    /// an even sample in the order of their names.
    ///
    /// It does not follow links or enter other file systems. It takes a file with several names
    /// once, and leaves out empty and unreadable files.
    ///
    /// # Errors
    /// A path does not exist, or there is no readable content under the paths.
    pub(crate) fn find(paths: &[PathBuf], limit: u64) -> Result<Self> {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        for path in paths {
            let shown = path.display();
            path.metadata().with_context(|| format!("cannot read the metadata of {shown}"))?;
            collect(path, &mut seen, &mut all);
        }
        let (sources, unreadable) = sample(all, limit);
        let bytes = sources.iter().map(|source| whole_pages(source.len)).sum();
        ensure!(bytes > 0, "there is no readable file with content under {}", output::list(paths));
        Ok(Self { files: sources.len() as u64, bytes, unreadable, sources })
    }

    /// Returns a reader of the selected files' bytes, in order.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let (waiting, total) = (self.sources.iter(), self.bytes);
        Reader { waiting, open: None, offset: 0, total, incomplete: 0 }
    }
}

fn collect(path: &Path, seen: &mut HashSet<(u64, u64)>, all: &mut Vec<Source>) {
    // A link that the user named is followed, to a file or to a folder.
    let root = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for entry in WalkDir::new(root).same_file_system(true).sort_by_file_name().into_iter().flatten()
    {
        if all.len() >= MAX_FILES {
            return;
        }
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() && meta.len() > 0 && seen.insert((meta.dev(), meta.ino())) {
            all.push(Source { path: entry.into_path(), len: meta.len() });
        }
    }
}

/// Selects an even sample: it keeps a file whenever the kept bytes lag behind their share of the
/// list. Returns it and the number of unreadable files.
fn sample(mut all: Vec<Source>, limit: u64) -> (Vec<Source>, u64) {
    let cap = cap(&all, limit);
    all.iter_mut().for_each(|source| source.len = source.len.min(cap));
    let total: u128 = all.iter().map(|source| u128::from(whole_pages(source.len))).sum();
    let (mut passed, mut kept, mut unreadable, mut sources) = (0u128, 0u64, 0u64, Vec::new());
    for mut source in all {
        passed += u128::from(whole_pages(source.len));
        let share = (passed * u128::from(limit)).checked_div(total).unwrap_or(0).min(passed);
        let room = (limit - kept) / PAGE as u64 * PAGE as u64;
        if u128::from(kept) >= share || room == 0 {
            continue;
        }
        if File::open(&source.path).is_err() {
            unreadable += 1;
            continue;
        }
        source.len = source.len.min(room);
        kept += whole_pages(source.len);
        sources.push(source);
    }
    (sources, unreadable)
}

/// Returns the most bytes to take from one file, so that a few large ones do not fill the sample.
fn cap(all: &[Source], limit: u64) -> u64 {
    let total_under =
        |cap: u64| all.iter().map(|source| u128::from(source.len.min(cap))).sum::<u128>();
    let mut cap = whole_pages(limit / 64).max(PAGE as u64);
    while total_under(cap) < u128::from(limit) && cap < u64::MAX {
        cap = cap.saturating_mul(2);
    }
    cap
}

fn whole_pages(len: u64) -> u64 {
    len.div_ceil(PAGE as u64).saturating_mul(PAGE as u64)
}

/// Reads a corpus in pieces.
///
/// Every file yields exactly as many bytes as were selected, even if it has changed since: missing
/// bytes read as zeros. The caller hashes what it receives.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    waiting: std::slice::Iter<'a, Source>,
    open: Option<Remainder>,
    offset: u64,
    total: u64,
    /// Files that could not be read to their end.
    pub(crate) incomplete: u64,
}

#[derive(Debug)]
struct Remainder {
    /// The selected part of the file, or `None` if it cannot be read to its end.
    file: Option<Take<File>>,
    /// Bytes still to fill: those of the file, then zeros up to a whole page.
    left: u64,
}

impl Reader<'_> {
    /// Fills the front of `buf`, whose length is whole pages. Returns the offset of these bytes on
    /// the disk and their number, or `None` at the end.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) -> Option<(u64, usize)> {
        let offset = self.offset;
        let want = usize::try_from(self.total - offset).unwrap_or(usize::MAX).min(buf.len());
        let mut filled = 0;
        while filled < want {
            // Open the next file. If that fails, it reads as zeros.
            let Some(open) = &mut self.open else {
                let source = self.waiting.next()?;
                let file = File::open(&source.path).ok().map(|file| file.take(source.len));
                self.open = Some(Remainder { file, left: whole_pages(source.len) });
                continue;
            };
            let part = (want - filled).min(usize::try_from(open.left).unwrap_or(usize::MAX));
            read_or_zero(&mut open.file, &mut buf[filled..filled + part]);
            filled += part;
            open.left -= part as u64;
            if open.left == 0 {
                self.incomplete += u64::from(open.file.is_none());
                self.open = None;
            }
        }
        self.offset += filled as u64;
        (filled > 0).then_some((offset, filled))
    }
}

/// Fills `buf` from the selected part of a file, then with zeros; closes a file that is too short.
fn read_or_zero(file: &mut Option<Take<File>>, mut buf: &mut [u8]) {
    while let Some(open) = file
        && !buf.is_empty()
    {
        match open.read(buf) {
            Ok(0) if open.limit() == 0 => break,
            Ok(bytes) if bytes > 0 => buf = &mut buf[bytes..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => *file = None,
        }
    }
    buf.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|place| (place % 251) as u8 + 1).collect();
        std::fs::write(dir.join(name), bytes).expect("a small file can be written");
    }

    fn read_all(corpus: &Corpus, piece: usize) -> (Vec<u8>, u64) {
        let (mut reader, mut bytes, mut buf) = (corpus.reader(), Vec::new(), vec![0xaa; piece]);
        while let Some((offset, len)) = reader.fill(&mut buf) {
            assert_eq!(offset, bytes.len() as u64);
            bytes.extend_from_slice(&buf[..len]);
        }
        (bytes, reader.incomplete)
    }

    #[test]
    fn each_file_starts_on_a_page_and_is_zero_padded() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        write(dir.path(), "a", 10);
        write(dir.path(), "b", PAGE + 1);
        write(dir.path(), "empty", 0);
        std::os::unix::fs::symlink(dir.path().join("b"), dir.path().join("link")).expect("a link");
        std::fs::hard_link(dir.path().join("b"), dir.path().join("z")).expect("a second name");
        let corpus = Corpus::find(&[dir.path().to_owned()], 1 << 30).expect("two files");
        assert_eq!((corpus.files, corpus.bytes), (2, 3 * PAGE as u64));
        for piece in [PAGE, 2 * PAGE, 8 * PAGE] {
            let (bytes, incomplete) = read_all(&corpus, piece);
            assert_eq!((bytes.len(), incomplete), (3 * PAGE, 0));
            assert_eq!(bytes[..10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
            assert!(bytes[10..PAGE].iter().all(|&byte| byte == 0));
            assert_eq!(bytes[PAGE..PAGE + 2], [1, 2]);
            assert_eq!(bytes[2 * PAGE], (PAGE % 251) as u8 + 1);
            assert!(bytes[2 * PAGE + 1..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_limit_takes_an_even_sample_and_cuts_the_rest() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for number in 0..100 {
            write(dir.path(), &format!("{number:02}"), PAGE);
        }
        let corpus = Corpus::find(&[dir.path().to_owned()], 10 * PAGE as u64).expect("files");
        assert_eq!((corpus.files, corpus.bytes), (10, 10 * PAGE as u64));
        let last = &corpus.sources.last().expect("ten").path;
        assert!(
            last.file_name().expect("a name") >= "85",
            "{} cannot be the last of an even sample",
            last.display()
        );

        write(dir.path(), "00", 100 * PAGE);
        let corpus = Corpus::find(&[dir.path().to_owned()], 64 * PAGE as u64).expect("files");
        assert_eq!(
            (corpus.files, corpus.bytes),
            (64, 64 * PAGE as u64),
            "one large file fills the whole sample"
        );
        let corpus = Corpus::find(&[dir.path().join("00")], 7 * PAGE as u64 + 5).expect("one file");
        assert_eq!((corpus.files, corpus.bytes), (1, 7 * PAGE as u64));
    }

    #[test]
    fn a_file_that_shrank_reads_as_zeros_and_is_counted() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        write(dir.path(), "a", 5 * PAGE);
        write(dir.path(), "b", 5);
        let corpus = Corpus::find(&[dir.path().to_owned()], 1 << 30).expect("two files");
        write(dir.path(), "a", 100);
        let (bytes, incomplete) = read_all(&corpus, 2 * PAGE);
        assert_eq!((bytes.len(), incomplete), (6 * PAGE, 1));
        assert!(
            bytes[..100].iter().all(|&byte| byte != 0)
                && bytes[100..5 * PAGE].iter().all(|&byte| byte == 0)
        );
        assert_eq!(bytes[5 * PAGE..5 * PAGE + 5], [1, 2, 3, 4, 5]);
    }

    #[test]
    fn an_empty_selection_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let error =
            Corpus::find(&[dir.path().to_owned()], 1 << 30).expect_err("the folder is empty");
        assert!(error.to_string().contains(&*dir.path().to_string_lossy()), "{error}");
        let missing = dir.path().join("missing");
        let error = Corpus::find(std::slice::from_ref(&missing), 1 << 30)
            .expect_err("the path does not exist");
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
