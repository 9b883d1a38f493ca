//! The folder where servers of this user keep their sockets.
//!
//! It is `$XDG_RUNTIME_DIR/memzip`, else `/run/user/UID/memzip`, else `/tmp/memzip-UID`. It must be
//! a real folder that belongs to this user and is closed to all others. A socket found in it can
//! then be trusted, also under `/tmp`.

use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::output;

/// Kind of a control socket.
pub(crate) const CONTROL: &str = "control";
/// Kind of an NBD socket.
pub(crate) const NBD: &str = "nbd";

/// A folder of sockets, checked when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct RuntimeDir(PathBuf);

impl RuntimeDir {
    /// Finds the folder and creates it if it is missing.
    ///
    /// # Errors
    /// The folder cannot be created, or is not a folder of this user that is closed to others.
    pub(crate) fn open() -> Result<Self> {
        let user = sys::host::effective_uid();
        let parents = [
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            Some(format!("/run/user/{user}").into()),
        ];
        for parent in parents.into_iter().flatten() {
            // No other user may be able to replace the folder inside.
            if parent.is_absolute()
                && parent.metadata().is_ok_and(|meta| is_mine(&meta, user, 0o022))
            {
                return Self::at(parent.join("memzip"));
            }
        }
        Self::at(format!("/tmp/memzip-{user}").into())
    }

    /// Opens this folder and creates it if it is missing.
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        let shown = path.display();
        if let Err(error) = DirBuilder::new().mode(0o700).create(&path)
            && error.kind() != ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("cannot make {shown}"));
        }
        // `symlink_metadata`: under /tmp any user can create a link with this name.
        let meta = path.symlink_metadata();
        let meta = meta.with_context(|| format!("cannot read the metadata of {shown}"))?;
        ensure!(
            is_mine(&meta, sys::host::effective_uid(), 0o077),
            "{shown} must be a folder of yours that is closed to others (mode 0700): remove it or set XDG_RUNTIME_DIR"
        );
        Ok(Self(path))
    }

    /// Returns the path of a socket of this process, such as `nbd-1234.sock`: the number of the
    /// process later tells whether the socket belongs to a dead one.
    pub(crate) fn socket(&self, kind: &str) -> PathBuf {
        self.0.join(format!("{kind}-{}.sock", std::process::id()))
    }

    /// Returns the control sockets in this folder that a server answers, in order of their names,
    /// and removes the sockets of dead servers.
    pub(crate) fn running(&self) -> Result<Vec<PathBuf>> {
        let entries =
            self.0.read_dir().with_context(|| format!("cannot list {}", self.0.display()))?;
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some((kind, process)) = name.and_then(parse) else { continue };
            let is_alive = Path::new(&format!("/proc/{process}")).exists();
            // Do not probe a live NBD server: it would count a client that broke off.
            if kind == NBD && is_alive {
                continue;
            }
            match UnixStream::connect(&path) {
                // The process may be invisible from here: it may run in a container.
                Ok(_) if kind == CONTROL => found.push(path),
                // A live process may be about to listen; keep its socket.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && !is_alive => {
                    remove(&path);
                }
                _ => {}
            }
        }
        found.sort();
        Ok(found)
    }

    /// Returns the control socket of the only running server.
    ///
    /// # Errors
    /// No server of this user runs, or several do.
    pub(crate) fn only_server(&self) -> Result<PathBuf> {
        match &self.running()?[..] {
            [] => bail!(
                "no server of yours is running (none answers in {}): start one with \"memzip serve\" or name its socket with --control",
                self.0.display()
            ),
            [one] => Ok(one.clone()),
            several => bail!(
                "{} servers are running, choose one with --control: {}",
                several.len(),
                output::list(several)
            ),
        }
    }
}

/// Returns whether this is a real folder of `user` that grants others none of the `denied` bits.
fn is_mine(meta: &Metadata, user: u32, denied: u32) -> bool {
    meta.is_dir() && meta.uid() == user && meta.mode() & denied == 0
}

/// Parses the name of a socket into its kind and process number.
fn parse(name: &str) -> Option<(&str, u32)> {
    let (kind, process) = name.strip_suffix(".sock")?.split_once('-')?;
    Some((kind, process.parse().ok()?)).filter(|(kind, _)| [CONTROL, NBD].contains(kind))
}

/// Removes a socket; another process may have removed it already.
fn remove(path: &Path) {
    if path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_live_servers_are_listed_and_dead_ones_removed() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let dir = RuntimeDir::at(temp.path().join("memzip")).expect("a new folder");
        assert!(dir.only_server().expect_err("no server runs").to_string().contains("no server"));

        // No process has a number this high, and there is always one with the number 1.
        let dead = ["control-4294967295.sock", "nbd-4294967295.sock"].map(|name| dir.0.join(name));
        dead.iter().for_each(|path| drop(UnixListener::bind(path).expect("bind")));
        let starting = dir.0.join("nbd-1.sock");
        drop(UnixListener::bind(&starting).expect("bind"));
        let alive = dir.0.join("control-1.sock");
        let _first = UnixListener::bind(&alive).expect("bind");
        let nbd = UnixListener::bind(dir.socket(NBD)).expect("bind");
        nbd.set_nonblocking(true).expect("a socket option");
        assert_eq!(dir.only_server().expect("one runs"), alive);
        assert!(dead.iter().all(|path| !path.exists()), "a dead server's socket is left");
        assert!(nbd.accept().is_err(), "the NBD socket was probed");
        assert!(starting.exists(), "the socket of a live process was removed");

        let other = dir.socket(CONTROL);
        let _second = UnixListener::bind(&other).expect("bind");
        let error = dir.only_server().expect_err("two run").to_string();
        assert!(
            error.contains("control-1.sock") && error.contains(&*other.to_string_lossy()),
            "{error}"
        );
    }

    #[test]
    fn an_open_folder_and_a_link_are_refused() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let open = temp.path().join("open");
        std::fs::create_dir(&open).expect("create");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(RuntimeDir::at(open.clone()).is_err());
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        assert!(RuntimeDir::at(open.clone()).is_ok());
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&open, &link).expect("link");
        assert!(RuntimeDir::at(link).is_err());
    }
}
