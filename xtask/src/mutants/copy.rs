//! A private copy of the working tree, kept between runs.
//!
//! Only files that differ are written, so that cargo rebuilds only what a mutant changes.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The copy, equal to the working tree except for the applied mutant.
pub(crate) struct Copy {
    root: PathBuf,
}

/// Returns the folder of the copy and its builds.
fn home() -> PathBuf {
    shell::root().join("target").join("mutants")
}

impl Copy {
    /// Makes the copy equal to the working tree, uncommitted changes included.
    pub(crate) fn refresh() -> Result<Self> {
        let copy = Copy { root: home().join("tree") };
        std::fs::create_dir_all(&copy.root)?;
        let wanted = listed()?;
        for path in &wanted {
            copy.write_if_different(path)?;
        }
        remove_others(&copy.root, &copy.root, &wanted)?;
        Ok(copy)
    }

    /// Returns the root of the copy.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the target folder for one kind of tests; RUSTFLAGS differ between kinds.
    pub(crate) fn target(&self, kind: &str) -> PathBuf {
        home().join(kind)
    }

    /// Applies a patch as a whole, or not at all.
    pub(crate) fn apply(&self, patch: &str) -> Result<()> {
        git_apply(&self.root, &[], patch).context("the patch does not apply")
    }

    /// Reverts an applied patch. The copy is then as it was after `refresh`, even if the working
    /// tree changed since.
    pub(crate) fn restore(&self, patch: &str) -> Result<()> {
        git_apply(&self.root, &["--reverse"], patch).context("the patch cannot be reverted")
    }

    fn write_if_different(&self, path: &Path) -> Result<()> {
        let (from, to) = (shell::root().join(path), self.root.join(path));
        let wanted =
            std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        if std::fs::read(&to).is_ok_and(|found| found == wanted) {
            return Ok(());
        }
        std::fs::create_dir_all(to.parent().context("the path has no folder")?)?;
        std::fs::write(&to, wanted).with_context(|| format!("cannot write {}", to.display()))
    }
}

/// Applies a patch to the files below `folder`, or returns git's message as the error.
pub(crate) fn git_apply(folder: &Path, options: &[&str], patch: &str) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["apply", "--whitespace=nowarn"]).args(options).current_dir(folder);
    // The copy lies inside the repository. Without this git would patch the repository's own files.
    git.env("GIT_CEILING_DIRECTORIES", home()).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = git.spawn().context("cannot start git")?;
    child.stdin.take().context("git has no input")?.write_all(patch.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Returns the files of the working tree that are tracked, or untracked and not ignored.
fn listed() -> Result<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(shell::root());
    let output = git.output().context("cannot start git")?;
    if !output.status.success() {
        bail!("git cannot list the files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let paths = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // A file that was deleted but not committed is still listed.
    Ok(paths.filter(|path| shell::root().join(path).is_file()).collect())
}

/// Removes files of earlier runs that the working tree does not have.
fn remove_others(root: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(root, &path, wanted)?;
        } else if path.strip_prefix(root).is_ok_and(|path| !wanted.contains(path)) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
