//! The pictures in ARCHITECTURE.md show the crates and modules as they are.

use anyhow::Result;

use super::Finding;
use crate::picture;
use crate::tree::Source;

/// Draws the pictures again and compares them with the document.
pub(crate) fn check(sources: &[Source]) -> Result<Vec<Finding>> {
    let outdated = picture::outdated(sources)?;
    let problem = "shows an earlier state; run `cargo xtask picture`";
    Ok(outdated
        .into_iter()
        .map(|picture| Finding::about(picture::DOCUMENT, format!("`{picture}` {problem}")))
        .collect())
}
