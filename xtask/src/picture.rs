//! `cargo xtask picture`: draws the crates of the workspace, and the modules of a crate, into the
//! blocks of ARCHITECTURE.md. `cargo xtask check` draws them again and compares.

mod rows;
mod crates;
mod modules;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::blocks;
use crate::packages::Metadata;
use crate::tree::{self, Source};

/// The document with the pictures.
pub(crate) const DOCUMENT: &str = "ARCHITECTURE.md";
/// Command of the block with the crates.
const CRATES: &str = "cargo xtask picture: crates";
/// Command of a block with the modules of a package, before the package's name.
const MODULES: &str = "cargo xtask picture: modules of ";

/// Draws all pictures.
pub(crate) fn run() -> Result<()> {
    let sources = tree::sources()?;
    let mut text = document(&sources)?.to_owned();
    for (command, picture) in drawn(&sources)? {
        text = blocks::replaced(&text, &command, &picture)?;
    }
    let path: PathBuf = shell::root().join(DOCUMENT);
    std::fs::write(&path, text).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// Returns the pictures that differ from what the document contains.
pub(crate) fn outdated(sources: &[Source]) -> Result<Vec<String>> {
    let text = document(sources)?;
    let mut outdated = Vec::new();
    for (command, picture) in drawn(sources)? {
        if blocks::replaced(text, &command, &picture)? != text {
            outdated.push(command);
        }
    }
    Ok(outdated)
}

fn document(sources: &[Source]) -> Result<&str> {
    let document = sources.iter().find(|source| source.path.as_os_str() == DOCUMENT);
    Ok(&document.with_context(|| format!("{DOCUMENT} is missing"))?.text)
}

/// Returns the picture of each block of the document, with the block's command.
fn drawn(sources: &[Source]) -> Result<Vec<(String, String)>> {
    let packages = Metadata::of_workspace(shell::root())?.packages;
    let mut pictures = Vec::new();
    for command in blocks::commands(document(sources)?)? {
        let rows = match command.strip_prefix(MODULES) {
            Some(name) => {
                let package = packages.iter().find(|package| package.name == name);
                let package = package.with_context(|| format!("there is no package {name}"))?;
                modules::rows(package, sources)?
            }
            None if command == CRATES => crates::rows(&packages)?,
            None => bail!("{DOCUMENT} has a block of another command: {command}"),
        };
        pictures.push((command, format!("```text\n{}```", rows::draw(rows))));
    }
    Ok(pictures)
}
