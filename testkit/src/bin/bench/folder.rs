//! Folders of a run, inside the build folder.

use std::error::Error;
use std::path::PathBuf;

/// Returns the cargo target folder that this program was built into.
pub(crate) fn target() -> Result<PathBuf, Box<dyn Error>> {
    let exe = std::env::current_exe()?;
    Ok(exe
        .ancestors()
        .nth(2)
        .ok_or("the benchmark must run from a cargo target folder")?
        .to_owned())
}

/// Returns the folder of the corpus, inside the build folder: it contains process memory and must
/// not be published.
pub(crate) fn corpus() -> Result<PathBuf, Box<dyn Error>> {
    Ok(target()?.join("corpus"))
}
