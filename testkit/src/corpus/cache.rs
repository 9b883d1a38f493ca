//! The corpus on disk: one file of pages for each kind, readable by its owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Corpus, CorpusError, Kind};
use crate::{PAGE_SIZE, Page};

/// Version of the page selection; a cache of another version is collected again.
const VERSION: u32 = 3;

/// Loads the corpus in `folder`; returns `None` when there is none of this version.
pub(super) fn load(folder: &Path) -> Result<Option<Corpus>, CorpusError> {
    let Ok(notes) = fs::read_to_string(notes_path(folder)) else { return Ok(None) };
    let mut lines = notes.lines();
    if lines.next() != Some(&heading()) {
        return Ok(None);
    }
    let mut corpus = Corpus { notes: lines.map(str::to_owned).collect(), ..Corpus::default() };
    for kind in Kind::ALL {
        let path = pages_path(folder, kind);
        *corpus.kind_mut(kind) =
            read_pages(&path).map_err(|source| CorpusError::Cache { path, source })?;
    }
    Ok(Some(corpus))
}

/// Saves the corpus. The notes go last, so that an interrupted save does not pass for a whole
/// one.
pub(super) fn save(folder: &Path, corpus: &Corpus) -> Result<(), CorpusError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| CorpusError::Cache { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail(folder))?;
    for kind in Kind::ALL {
        let path = pages_path(folder, kind);
        write_pages(&path, corpus.kind(kind)).map_err(fail(&path))?;
    }
    let path = notes_path(folder);
    let text = std::iter::once(heading())
        .chain(corpus.notes.iter().cloned())
        .collect::<Vec<_>>()
        .join("\n");
    private_file(&path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(fail(&path))
}

fn heading() -> String {
    format!("memzip corpus {VERSION}")
}

fn notes_path(folder: &Path) -> PathBuf {
    folder.join("notes.txt")
}

fn pages_path(folder: &Path, kind: Kind) -> PathBuf {
    folder.join(format!("{}.pages", kind.name()))
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn write_pages(path: &Path, pages: &[Page]) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, private_file(path)?);
    for page in pages {
        file.write_all(&page[..])?;
    }
    file.flush()
}

fn read_pages(path: &Path) -> io::Result<Vec<Page>> {
    let file = File::open(path)?;
    let count = usize::try_from(file.metadata()?.len()).unwrap_or(0) / PAGE_SIZE;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut pages = vec![Page::zeroed(); count];
    for page in &mut pages {
        file.read_exact(&mut page[..])?;
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sample;

    #[test]
    fn a_saved_corpus_loads_and_is_private() {
        let folder =
            std::env::temp_dir().join(format!("memzip-corpus-test-{}", std::process::id()));
        let corpus =
            Corpus { memory: sample(9, 1), notes: vec!["no text".into()], ..Corpus::default() };
        save(&folder, &corpus).expect("the temporary folder is writable");
        let back = load(&folder).expect("readable").expect("complete");
        assert_eq!(
            (&back.memory, &back.text, &back.notes),
            (&corpus.memory, &corpus.text, &corpus.notes)
        );
        let mode = fs::metadata(pages_path(&folder, Kind::Memory))
            .expect("just written")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(folder).expect("created by this test");
    }
}
