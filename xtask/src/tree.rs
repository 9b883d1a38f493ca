//! The text files of the repository that the checks read, without build output, hidden folders and
//! fuzz corpora.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A text file of the repository.
pub(crate) struct Source {
    /// Path relative to the root.
    pub path: PathBuf,
    /// The content.
    pub text: String,
}

impl Source {
    /// Returns whether the file has this extension.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }
}

/// Returns all `.rs`, `.toml` and `.md` files, sorted by path.
pub(crate) fn sources() -> Result<Vec<Source>> {
    let mut found = Vec::new();
    walk(shell::root(), &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<Source>) -> Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if !is_left_out(&path) {
                walk(&path, found)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| ["rs", "toml", "md"].iter().any(|wanted| extension == *wanted))
        {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(shell::root()).unwrap_or(&path).to_path_buf();
            found.push(Source { path, text });
        }
    }
    Ok(())
}

fn is_left_out(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || ["target", "corpus", "artifacts", "coverage"].contains(&&*name)
}
