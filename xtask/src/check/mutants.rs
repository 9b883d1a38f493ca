//! Every patch in `xtask/mutants` says what it must and still fits the code, so that a guard cannot lose its proof unnoticed. `cargo xtask mutants`
//! shows that it is also caught.

use super::Finding;
use crate::mutants;
use anyhow::Result;

/// Asks git, which changes nothing.
pub fn check() -> Result<Vec<Finding>> {
    let stale = mutants::stale()?.into_iter();
    Ok(stale.map(|(name, problem)| Finding::about(format!("xtask/mutants/{name}.patch"), problem)).collect())
}
