//! A unix socket that only those can open who may, from the first moment to the last.
//!
//! The file is made closed to others and gets its group and mode before the socket listens, so there is no moment at which a stranger could
//! connect. The user id of each client is checked all the same. A file left behind by a dead server is replaced; one that a server
//! listens on is not.

use super::{AcceptOutcome, BACKLOG, SocketFile, would_block};
use crate::config::UnixAccess;
use crate::error::NbdError;
use crate::refusal::Refusal;
use crate::socket::Socket;
use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, chmod, chownat, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, UCred, sockopt};
use rustix::process::geteuid;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long another server that starts is waited for.
const DIRECTORY_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// A listening unix socket and the file that names it; the file is removed when this is dropped, unless another
/// has taken its place.
///
/// For a server of any protocol: of several that start at one path, one gets it.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    file: SocketFile,
    access: UnixAccess,
}

impl BoundSocket {
    /// Listens at `path`. The socket never blocks.
    ///
    /// # Errors
    /// [`NbdError::InUse`], [`NbdError::NotASocket`], [`NbdError::Io`].
    pub fn bind(path: PathBuf) -> Result<Self, NbdError> {
        Self::bind_with_access(path, UnixAccess::default())
    }

    /// Listens at `path` for those who have access. The socket never blocks.
    ///
    /// # Errors
    /// [`NbdError::InUse`], [`NbdError::NotASocket`], [`NbdError::Io`].
    pub fn bind_with_access(path: PathBuf, access: UnixAccess) -> Result<Self, NbdError> {
        let _lock = lock_directory(&path);
        remove_stale(&path)?;
        let socket = bound_socket(&path)?;
        let socket =
            Self { listener: UnixListener::from(socket), file: SocketFile::at(path), access };
        if let Some(group) = socket.access.group {
            chownat(
                CWD,
                socket.path(),
                None,
                Some(Gid::from_raw(group)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(NbdError::io("give the unix socket its group"))?;
        }
        chmod(socket.path(), socket.access.mode_bits())
            .map_err(NbdError::io("protect the unix socket"))?;
        net::listen(&socket.listener, BACKLOG)
            .map_err(NbdError::io("listen on the unix socket"))?;
        Ok(socket)
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the file that names the socket.
    pub fn file(&self) -> SocketFile {
        self.file.clone()
    }

    /// Clones the listening socket for callers with an accept loop of their own. They must check each client.
    ///
    /// # Errors
    /// That of `dup`: too many open files.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Checks whether the client behind a stream that was accepted has access.
    ///
    /// # Errors
    /// [`Refusal::Peer`].
    pub fn check_peer(&self, stream: impl AsFd) -> Result<(), Refusal> {
        let peer = sockopt::socket_peercred(stream).map_err(|_| Refusal::Peer { user: None })?;
        if self.access.permits(&peer) {
            Ok(())
        } else {
            Err(Refusal::Peer { user: Some(peer.uid.as_raw()) })
        }
    }

    /// Removes the file, so that no new client finds the socket; those that wait can still be taken in.
    pub fn unlink(&self) {
        self.file.remove();
    }

    /// Takes the next client in if it has access.
    pub(crate) fn accept(&self) -> io::Result<AcceptOutcome> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(match self.check_peer(&stream) {
                Ok(()) => AcceptOutcome::Client(Socket::Unix(stream)),
                Err(refusal) => AcceptOutcome::Refused(refusal),
            }),
            Err(error) => would_block(error),
        }
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        self.unlink();
    }
}

/// A socket whose file is closed to others from the moment it exists.
fn bound_socket(path: &Path) -> Result<OwnedFd, NbdError> {
    let socket = new_socket()?;
    // The file that `bind` makes takes its mode from the socket.
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(NbdError::io("protect the unix socket"))?;
    let address = SocketAddrUnix::new(path).map_err(NbdError::io("use the socket path"))?;
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

/// Whether the group is the client's own or one of its supplementary groups.
fn is_member(peer: &UCred, group: u32) -> bool {
    if peer.gid.as_raw() == group {
        return true;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", peer.pid.as_raw_nonzero()))
        .unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    groups.is_some_and(|groups| groups.split_whitespace().any(|word| word.parse() == Ok(group)))
}

fn new_socket() -> Result<OwnedFd, NbdError> {
    net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .map_err(NbdError::io("make a unix socket"))
}

/// The folder of the socket, locked: before a server listens its socket looks like a dead one's, and another that starts would replace it.
///
/// Others may lock folders for reasons of their own, so after a while it goes on without.
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

/// Removes a socket file that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), NbdError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(NbdError::Io { doing: "look at the socket path", source }),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(NbdError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    let address = SocketAddrUnix::new(path).map_err(NbdError::io("use the socket path"))?;
    // Does not wait: a full backlog (EAGAIN) means that a server listens.
    match net::connect(&new_socket()?, &address) {
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

    /// Before `listen` and `chmod`: whatever the umask is.
    #[test]
    fn the_file_is_closed_to_others_when_it_is_made() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("disk.sock");
        let _socket = bound_socket(&path).expect("a free path");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn the_mode_follows_from_who_has_access() {
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
            assert_eq!(socket.check_peer(&client), Ok(()), "this user may always connect");
        }
    }

    /// Servers that start at the same moment, where a dead one left its socket and where none did: one of them listens, and it can be reached.
    #[test]
    fn of_servers_that_start_together_one_gets_the_socket() {
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
            UnixStream::connect(&path).expect("the one can be reached");
        }
    }
}
