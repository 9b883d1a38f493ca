//! What `cargo metadata` knows: the packages of the workspace and of everybody they use.

use crate::shell;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The package with the `memzip` binary.
pub const BINARY: &str = "memzip";
/// The package of this program.
pub const XTASK: &str = "xtask";
/// The package with the benchmark program.
pub const BENCH: &str = "memzip-testkit";

/// The part of `cargo metadata` the checks read.
#[derive(Deserialize)]
pub struct Metadata {
    /// Workspace members first or last, as cargo likes; registry packages among them unless asked for without dependencies.
    pub packages: Vec<Package>,
}

/// One package.
#[derive(Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    /// `None` for a package of this repository.
    pub source: Option<String>,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

/// One line of a `[dependencies]` table.
#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
}

/// A library, binary, test or fuzz target.
#[derive(Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
    pub src_path: PathBuf,
}

impl Metadata {
    /// All packages the workspace needs, with those it is made of.
    pub fn of_everything() -> Result<Self> {
        read(shell::root(), &[])
    }

    /// The packages of the workspace whose manifest lies in `folder`.
    pub fn of_workspace(folder: &Path) -> Result<Self> {
        read(folder, &["--no-deps"])
    }
}

impl Package {
    /// The package's folder, relative to the root of the repository.
    pub fn folder(&self) -> PathBuf {
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
