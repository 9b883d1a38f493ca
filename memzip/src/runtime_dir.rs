//! The folder where servers of this user keep their sockets.
//!
//! `$XDG_RUNTIME_DIR/memzip`, else `/run/user/UID/memzip`, else `/tmp/memzip-UID`. Whichever it is must be a real folder that belongs
//! to this user and is closed to everybody else: a socket found in it can then be trusted, also under `/tmp`.

use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

const CONTROL: &str = "control";
const NBD: &str = "nbd";

/// A folder of sockets, checked when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct RuntimeDir(PathBuf);

impl RuntimeDir {
    /// Finds the folder and makes it where it is missing.
    pub(crate) fn open() -> Result<Self> {
        let user = sys::host::effective_uid();
        let parents = [
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            Some(format!("/run/user/{user}").into()),
        ];
        for parent in parents.into_iter().flatten() {
            // Nobody else may be able to swap the folder inside for another.
            if parent.is_absolute()
                && parent.metadata().is_ok_and(|meta| is_mine(&meta, user, 0o022))
            {
                return Self::at(parent.join("memzip"));
            }
        }
        Self::at(format!("/tmp/memzip-{user}").into())
    }

    /// Uses this folder and makes it where it is missing.
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
        }
        // Not followed if it is a link: under /tmp anybody could have laid one.
        let meta = path
            .symlink_metadata()
            .with_context(|| format!("cannot look at {}", path.display()))?;
        ensure!(
            is_mine(&meta, sys::host::effective_uid(), 0o077),
            "{} must be a folder of yours that is closed to others (mode 0700): remove it or set XDG_RUNTIME_DIR",
            path.display()
        );
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the server of this process listens for NBD clients unless told otherwise.
    pub(crate) fn nbd_socket(&self) -> PathBuf {
        self.mine(NBD)
    }

    /// Where the server of this process listens for `memzip stat` unless told otherwise.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.mine(CONTROL)
    }

    /// `nbd-1234.sock`: the process in the name tells later whether the socket is a dead one's.
    fn mine(&self, kind: &str) -> PathBuf {
        self.0.join(format!("{kind}-{}.sock", std::process::id()))
    }

    /// Control sockets in this folder that a server answers, in order of their names. Sockets of
    /// dead servers are removed.
    pub(crate) fn running(&self) -> Result<Vec<PathBuf>> {
        let entries =
            self.0.read_dir().with_context(|| format!("cannot list {}", self.0.display()))?;
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some((kind, process)) = path.file_name().and_then(|name| parse(name.to_str()?))
            else {
                continue;
            };
            let is_alive = Path::new(&format!("/proc/{process}")).exists();
            // NBD sockets of the living are not touched: a probe would count as a client that broke off.
            if kind == NBD && is_alive {
                continue;
            }
            match UnixStream::connect(&path) {
                // Also one whose process is not seen from here: it may run in a container.
                Ok(_) if kind == CONTROL => found.push(path),
                // Not that of a living process, which may be about to listen.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && !is_alive => {
                    remove(&path)
                }
                _ => {}
            }
        }
        found.sort();
        Ok(found)
    }

    /// The control socket of the only server that runs.
    pub(crate) fn only_server(&self) -> Result<PathBuf> {
        let mut found = self.running()?;
        match found.len() {
            0 => bail!(
                "no server of yours is running (none answers in {}): start one with \"memzip serve\" or name its socket with --control",
                self.0.display()
            ),
            1 => Ok(found.remove(0)),
            several => {
                let list: Vec<String> =
                    found.iter().map(|path| path.display().to_string()).collect();
                bail!(
                    "{several} servers are running, choose one with --control: {}",
                    list.join(", ")
                )
            }
        }
    }
}

/// A real folder of this user that grants others none of the `denied` bits.
fn is_mine(meta: &Metadata, user: u32, denied: u32) -> bool {
    meta.is_dir() && meta.uid() == user && meta.mode() & denied == 0
}

/// The kind and the process in the name of a socket of ours.
fn parse(name: &str) -> Option<(&str, u32)> {
    let (kind, process) = name.strip_suffix(".sock")?.split_once('-')?;
    Some((kind, process.parse().ok()?)).filter(|(kind, _)| [CONTROL, NBD].contains(kind))
}

/// Removes a socket. It may be gone already: another process looks around at the same time.
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
    fn only_living_servers_are_listed_and_dead_ones_are_cleared_away() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let dir = RuntimeDir::at(temp.path().join("memzip")).expect("a new folder");
        assert!(dir.only_server().expect_err("nobody runs").to_string().contains("no server"));

        // No process has a number this high, and there is always one with the number 1.
        let dead = ["control-4294967295.sock", "nbd-4294967295.sock"].map(|name| dir.0.join(name));
        dead.iter().for_each(|path| drop(UnixListener::bind(path).expect("bind")));
        let starting = dir.0.join("nbd-1.sock");
        drop(UnixListener::bind(&starting).expect("bind"));
        let alive = dir.0.join("control-1.sock");
        let _first = UnixListener::bind(&alive).expect("bind");
        let nbd = UnixListener::bind(dir.nbd_socket()).expect("bind");
        nbd.set_nonblocking(true).expect("a socket option");
        assert_eq!(dir.only_server().expect("one runs"), alive);
        assert!(dead.iter().all(|path| !path.exists()), "a dead server's sockets are removed");
        assert!(nbd.accept().is_err(), "nobody has knocked at an NBD server's door");
        assert!(starting.exists(), "the socket of a process that lives is left alone");

        let other = dir.control_socket();
        let _second = UnixListener::bind(&other).expect("bind");
        let error = dir.only_server().expect_err("two run").to_string();
        assert!(
            error.contains("control-1.sock") && error.contains(&*other.to_string_lossy()),
            "{error}"
        );
    }

    #[test]
    fn a_folder_others_can_enter_and_a_link_are_refused() {
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
