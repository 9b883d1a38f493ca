//! Where and how to serve.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket; [`ServerConfig::access`] says who may connect.
    Unix(PathBuf),
    /// A TCP address. The protocol has no passwords: bind to the loopback address unless everybody who can reach the address may read and
    /// write the device.
    Tcp(SocketAddr),
}

/// Who may connect to a unix socket: the file's mode and group decide first, then the server asks the system who the client is.
///
/// The user of the server and root may always connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixAccess {
    /// Permission bits of the file. `None`: 0600, or 0660 with a group, or 0666 with users and no group.
    pub mode: Option<u32>,
    /// Group of the file; its members may connect.
    pub group: Option<u32>,
    /// Users who may connect besides.
    pub users: Vec<u32>,
}

/// Choices with useful defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The export's name; clients that ask for the empty name get it too. At most 4096 bytes.
    pub export_name: String,
    /// Text that clients may show to people. At most 4096 bytes.
    pub description: String,
    /// Who may connect to a unix socket. By default the user of the server and root.
    pub access: UnixAccess,
    /// Clients that are served at the same time. The next ones are told when they want to start, and turned away.
    pub max_connections: usize,
    /// Clients in the handshake at the same time. When there are more, the oldest one that had an eighth of the handshake timeout,
    /// or a second, makes room for the next; the next ones wait in the listen queue.
    pub max_handshakes: usize,
    /// How long a client may take from connecting to the end of the handshake, whatever it sends and however slowly it reads.
    pub handshake_timeout: Duration,
    /// How long a client may take to receive the replies that are sent together, at most 2 MiB.
    pub send_timeout: Duration,
    /// How long a client may take between requests, and for each 128 KiB of a long one; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a shutdown waits for requests in flight; long trims and zeroings are then interrupted and
    /// answered with `ESHUTDOWN`. Where no request is in flight, it still gives clients half a second, if
    /// this is not less, so that what they ask then is refused with `ESHUTDOWN`.
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
