//! A listening unix socket with access control from the moment its file exists.
//!
//! The file is created with mode 0600 and gets its group and its mode before the socket listens,
//! so no other user can connect too early. The peer credentials of each client are checked in
//! addition. A stale file of a dead server is replaced; the file of a listening server is not.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, chmod, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, UCred, sockopt};
use rustix::process::geteuid;

use super::socket_file::SocketFile;
use crate::config::UnixAccess;
use crate::error::NbdError;
use crate::refusal::Refusal;

/// Length of the listen queue: clients that wait for `accept`.
pub(crate) const BACKLOG: i32 = 1024;
/// Time to wait for another server that is starting in the same directory.
const DIRECTORY_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// A listening unix socket and its file, which is removed on drop unless another file has taken
/// its place.
///
/// Works for servers of any protocol. If several servers start at one path, one of them gets it.
#[derive(Debug)]
pub struct BoundSocket {
    pub(super) listener: UnixListener,
    file: SocketFile,
    access: UnixAccess,
}

impl BoundSocket {
    /// Binds `path` and listens, with access for the server's own user and root. The socket never
    /// blocks.
    ///
    /// # Errors
    /// [`NbdError::InUse`], [`NbdError::NotASocket`], [`NbdError::Io`].
    pub fn bind(path: PathBuf) -> Result<Self, NbdError> {
        Self::bind_with_access(path, UnixAccess::default())
    }

    /// Binds `path` and listens, with access for the users that `access` names. The socket never
    /// blocks.
    ///
    /// # Errors
    /// [`NbdError::InUse`], [`NbdError::NotASocket`], [`NbdError::Io`].
    pub fn bind_with_access(path: PathBuf, access: UnixAccess) -> Result<Self, NbdError> {
        let _lock = lock_directory(&path);
        remove_stale(&path)?;
        let listener = bound_socket(&path)?.into();
        let socket = Self { listener, file: SocketFile::at(path), access };
        // Set the group and the mode before `listen`, so that no client connects too early.
        let (path, access) = (socket.file.path(), &socket.access);
        if let Some(group) = access.group {
            lchown(path, None, Some(group)).map_err(NbdError::io("set the unix socket's group"))?;
        }
        chmod(path, access.mode_bits()).map_err(NbdError::io("set the unix socket's mode"))?;
        net::listen(&socket.listener, BACKLOG)
            .map_err(NbdError::io("listen on the unix socket"))?;
        Ok(socket)
    }

    /// Returns the socket's file.
    pub fn file(&self) -> SocketFile {
        self.file.clone()
    }

    /// Clones the listening socket for a caller with its own accept loop. The caller must call
    /// [`BoundSocket::check_peer`] for each client.
    ///
    /// # Errors
    /// The errors of `dup`, such as too many open files.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Checks whether the client of an accepted stream has access.
    ///
    /// # Errors
    /// [`Refusal::Peer`] if it has none or its credentials cannot be read.
    pub fn check_peer(&self, stream: impl AsFd) -> Result<(), Refusal> {
        let peer = sockopt::socket_peercred(stream).map_err(|_| Refusal::Peer { user: None })?;
        match self.access.permits(&peer) {
            true => Ok(()),
            false => Err(Refusal::Peer { user: Some(peer.uid.as_raw()) }),
        }
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        self.file.remove();
    }
}

/// Creates a bound socket whose file has mode 0600 from the moment it exists.
fn bound_socket(path: &Path) -> Result<OwnedFd, NbdError> {
    let (socket, address) = new_socket(path)?;
    // `bind` gives the file the mode of the socket.
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(NbdError::io("set the unix socket's mode"))?;
    net::bind(&socket, &address).map_err(|error| match error {
        Errno::ADDRINUSE => NbdError::InUse { path: path.into() },
        error => NbdError::Io { doing: "bind the unix socket", source: error.into() },
    })?;
    Ok(socket)
}

impl UnixAccess {
    fn mode_bits(&self) -> Mode {
        let default = match (self.group, self.users.is_empty()) {
            (Some(_), _) => 0o660,
            (None, true) => 0o600,
            (None, false) => 0o666,
        };
        Mode::from_raw_mode(self.mode.unwrap_or(default) & 0o777)
    }

    fn permits(&self, peer: &UCred) -> bool {
        let is_named = || self.users.contains(&peer.uid.as_raw());
        let is_member = || self.group.is_some_and(|group| is_member(peer, group));
        peer.uid == geteuid() || peer.uid.is_root() || is_named() || is_member()
    }
}

/// Returns whether `group` is the client's primary group or a supplementary one.
fn is_member(peer: &UCred, group: u32) -> bool {
    if peer.gid.as_raw() == group {
        return true;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", peer.pid.as_raw_nonzero()))
        .unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    groups.is_some_and(|groups| groups.split_whitespace().any(|word| word.parse() == Ok(group)))
}

/// Creates a non-blocking socket and the address of `path`.
fn new_socket(path: &Path) -> Result<(OwnedFd, SocketAddrUnix), NbdError> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(NbdError::io("create a unix socket"))?;
    let address = SocketAddrUnix::new(path).map_err(NbdError::io("use the socket path"))?;
    Ok((socket, address))
}

/// Locks the directory of the socket. Between `bind` and `listen` a socket looks stale, and
/// another server that starts would replace it.
///
/// Other programs may hold the lock for other reasons, so after [`DIRECTORY_LOCK_TIMEOUT`] the
/// function returns without it.
fn lock_directory(path: &Path) -> Option<fs::File> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::File::open(folder).ok()?;
    let start = Instant::now();
    while let Err(Errno::WOULDBLOCK | Errno::INTR) =
        flock(&folder, FlockOperation::NonBlockingLockExclusive)
    {
        if start.elapsed() > DIRECTORY_LOCK_TIMEOUT {
            break;
        }
        thread::sleep(Duration::from_millis(2));
    }
    Some(folder)
}

/// Removes a socket file that no server listens on.
fn remove_stale(path: &Path) -> Result<(), NbdError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(NbdError::Io { doing: "inspect the socket path", source }),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(NbdError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    let (socket, address) = new_socket(path)?;
    // The socket is non-blocking: EAGAIN means a full listen queue, so a server listens.
    match net::connect(&socket, &address) {
        Err(Errno::CONNREFUSED) => {
            fs::remove_file(path).map_err(NbdError::io("remove the stale socket"))
        }
        Err(Errno::NOENT) => Ok(()),
        _ => Err(NbdError::InUse { path: path.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("a socket").permissions().mode() & 0o777
    }

    /// Checks the mode before `listen` and `chmod`; it must not depend on the umask.
    #[test]
    fn socket_file_is_created_with_mode_0600() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("disk.sock");
        let _socket = bound_socket(&path).expect("a free path");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn socket_mode_follows_from_access() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let own = Some(rustix::process::getegid().as_raw());
        let table = [
            (UnixAccess::default(), 0o600),
            (UnixAccess { group: own, ..UnixAccess::default() }, 0o660),
            (UnixAccess { users: vec![1000], ..UnixAccess::default() }, 0o666),
            (UnixAccess { mode: Some(0o620), group: own, users: vec![1000] }, 0o620),
        ];
        for (access, expected) in table {
            let path = folder.path().join("disk.sock");
            let socket = BoundSocket::bind_with_access(path.clone(), access).expect("a free path");
            assert_eq!(mode(&path), expected);
            let (client, _) = (UnixStream::connect(&path).expect("it listens"), ());
            assert_eq!(socket.check_peer(&client), Ok(()), "the server's user may connect");
        }
    }

    /// Starts four servers at once, with and without a stale socket. Exactly one of them listens
    /// and can be reached.
    #[test]
    fn one_of_four_servers_started_together_listens() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("disk.sock");
        for round in 0..200 {
            if round % 2 == 0 {
                drop(UnixListener::bind(&path).expect("a socket"));
            }
            let start = Barrier::new(4);
            let open = || {
                start.wait();
                BoundSocket::bind(path.clone())
            };
            let results: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert_eq!(
                results.iter().filter(|socket| socket.is_ok()).count(),
                1,
                "round {round}: {results:?}"
            );
            let refused = results
                .iter()
                .filter(|socket| matches!(socket, Err(NbdError::InUse { .. })))
                .count();
            assert_eq!(refused, 3, "round {round}: {results:?}");
            UnixStream::connect(&path).expect("one server listens");
        }
    }
}
