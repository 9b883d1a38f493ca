//! Configuration of a server: its address, its access rules and its limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The address that a server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// The path of a unix socket; [`ServerConfig::access`] decides which users may connect.
    Unix(PathBuf),
    /// A TCP address. The protocol has no authentication: bind to the loopback address unless
    /// every client that can reach the address may read and write the device.
    Tcp(SocketAddr),
}

/// The users that may connect to a unix socket.
///
/// The file's mode and group are checked by the system at `connect`. The server then checks the
/// peer credentials of each client. The server's own user and root may always connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixAccess {
    /// Permission bits of the file. `None`: 0660 with a group, 0666 with users and no group, else
    /// 0600.
    pub mode: Option<u32>,
    /// Group id of the file; members of the group may connect.
    pub group: Option<u32>,
    /// Ids of further users that may connect.
    pub users: Vec<u32>,
}

/// Options of a server, all with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The export's name. The empty name selects the same export. At most 4096 bytes.
    pub export_name: String,
    /// Description for people, which clients may show. At most 4096 bytes.
    pub description: String,
    /// Users that may connect to a unix socket: by default the server's own user and root.
    pub access: UnixAccess,
    /// Connections that may be in the transmission phase at the same time. Further clients get an
    /// error when they ask to start it.
    pub max_connections: usize,
    /// Clients that may be in the handshake at the same time. When more connect, the server
    /// evicts the oldest client that has been in the handshake for an eighth of
    /// `handshake_timeout`, or for a second if that is shorter. Until then new clients wait in
    /// the listen queue.
    pub max_handshakes: usize,
    /// Time from `accept` to the end of the handshake, however slowly the client sends and reads.
    pub handshake_timeout: Duration,
    /// Time for a client to receive one batch of replies, of at most 2 MiB.
    pub send_timeout: Duration,
    /// Time for a client to send the next request, and each 128 KiB of a long payload. `None`: no
    /// limit.
    pub idle_timeout: Option<Duration>,
    /// Time that a shutdown waits for requests in flight. After it, long trims and zeroings are
    /// interrupted and get `ESHUTDOWN`. If no request is in flight, the shutdown still waits for
    /// half a second, or for this time if it is shorter, so that requests sent in the meantime
    /// get `ESHUTDOWN`.
    pub shutdown_grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            export_name: String::new(),
            description: String::from("memzip compressed memory"),
            access: UnixAccess::default(),
            max_connections: 1024,
            max_handshakes: 512,
            handshake_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(30),
            idle_timeout: None,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
