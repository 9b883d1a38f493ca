//! The file of a listening unix socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::lstat;

/// The file of a listening unix socket. Clones refer to the same file.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: Arc<Path>,
    /// Device and inode numbers, until the file is removed. Another file at the same path has
    /// other numbers and is not removed.
    identity: Arc<Mutex<Option<(u64, u64)>>>,
}

impl SocketFile {
    /// Returns the file that is at `path` now.
    pub(super) fn at(path: PathBuf) -> Self {
        let identity = Arc::new(Mutex::new(identity(&path)));
        Self { path: path.into(), identity }
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, unless it was removed before or another file has taken its place. If
    /// another thread is removing the file, waits until it is gone.
    pub fn remove(&self) {
        // No code under this lock panics half-way, so a poisoned lock is valid.
        let mut ours = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if ours.is_some() && identity(&self.path) == *ours {
            // If removing fails, the next server finds the file stale and replaces it.
            let _ = fs::remove_file(&self.path);
        }
        *ours = None;
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    lstat(path).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_the_own_file_is_removed_and_only_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("disk.sock");
        let _listener = UnixListener::bind(&path).expect("a free path");
        let file = SocketFile::at(path.clone());
        let same = file.clone();
        file.remove();
        assert!(!path.exists());
        drop(UnixListener::bind(&path).expect("a free path"));
        same.remove();
        assert!(path.exists(), "the next server's file must stay");
    }
}
