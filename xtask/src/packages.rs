//! `cargo metadata`: the packages of the workspace and their dependencies.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Name of the package with the `memzip` binary.
pub(crate) const BINARY: &str = "memzip";
/// Name of the package with the experiments in a guest.
pub(crate) const GUEST: &str = "memzip-guest";
/// Name of the package with the benchmark.
pub(crate) const BENCH: &str = "memzip-testkit";

/// The part of `cargo metadata` that the checks use.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    /// Packages in any order: workspace members, and registry packages unless `--no-deps` is given.
    pub packages: Vec<Package>,
}

/// A package.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    pub description: Option<String>,
    /// Where a registry package comes from; `None` for a package of this repository.
    pub source: Option<String>,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

/// A line of a `[dependencies]` table.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub name: String,
    /// `dev` or `build`; `None` for a normal dependency.
    pub kind: Option<String>,
}

/// A library, binary, test or fuzz target.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub name: String,
    pub kind: Vec<String>,
    pub src_path: PathBuf,
}

impl Metadata {
    /// Reads the packages of the workspace and all their dependencies.
    pub(crate) fn of_everything() -> Result<Self> {
        read(shell::root(), &[])
    }

    /// Reads the packages of the workspace in `folder`.
    pub(crate) fn of_workspace(folder: &Path) -> Result<Self> {
        read(folder, &["--no-deps"])
    }
}

impl Package {
    /// Returns the package's folder, relative to the root of the repository.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = self.manifest_path.parent().unwrap_or(&self.manifest_path);
        folder.strip_prefix(shell::root()).unwrap_or(folder).to_path_buf()
    }
}

fn read(folder: &Path, options: &[&str]) -> Result<Metadata> {
    let mut command = shell::cargo("metadata");
    command.args(["--format-version", "1"]).args(options).current_dir(folder);
    let output = command.output().context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed something unexpected")
}
