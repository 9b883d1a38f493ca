//! The folder of the guest's files.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The folder of the guest's files, locked by one experiment at a time.
pub(crate) struct Folder {
    /// Its path.
    pub path: PathBuf,
    // The kernel unlocks the file when it is closed, however this program ends.
    _lock: File,
}

impl Folder {
    /// Creates and locks the folder.
    pub(crate) fn lock() -> Result<Self> {
        let path = shell::root().join("target").join("guest");
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let lock = File::create(path.join("lock")).context("cannot create the lock file")?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                bail!("another experiment runs in {}", path.display())
            }
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).context("cannot lock the lock file")
            }
        }
    }
}
