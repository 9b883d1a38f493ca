//! The addresses of servers, and the socket of a connection.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::ClientError;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The path of a unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl FromStr for Target {
    type Err = ClientError;

    /// Parses `nbd+unix:///export?socket=PATH`, `nbd://host:port/export`, or a plain path. The
    /// export name is ignored: the client asks for the default export.
    fn from_str(text: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address { text: text.to_owned() };
        if let Some(rest) = text.strip_prefix("nbd+unix://") {
            let (_, path) = rest.split_once("socket=").ok_or_else(wrong)?;
            return Ok(Self::Unix(path.into()));
        }
        if let Some(rest) = text.strip_prefix("nbd://") {
            let host = rest.split('/').next().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
            return Ok(Self::Tcp(if host.contains(':') {
                host.to_owned()
            } else {
                format!("{host}:10809")
            }));
        }
        if text.contains('/') { Ok(Self::Unix(text.into())) } else { Err(wrong()) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(out),
            Self::Tcp(host) => out.write_str(host),
        }
    }
}

/// A connected socket of either kind.
pub(crate) trait Socket: Read + Write + fmt::Debug + Send {}

impl Socket for UnixStream {}
impl Socket for TcpStream {}

/// The socket of a connection.
pub(crate) type Stream = Box<dyn Socket>;

/// Connects to a server.
pub(crate) fn connect(target: &Target) -> Result<Stream, ClientError> {
    let connected: io::Result<Stream> = match target {
        Target::Unix(path) => UnixStream::connect(path).map(|stream| Box::new(stream) as _),
        Target::Tcp(host) => TcpStream::connect(host).and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as _)
        }),
    };
    connected.map_err(|source| ClientError::Connect { target: target.to_string(), source })
}

/// Sends all slices, in as few calls as the socket takes.
pub(crate) fn write_all(stream: &mut Stream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_or_refused() {
        let parse = |text: &str| text.parse::<Target>();
        assert_eq!(
            parse("nbd+unix:///x?socket=/tmp/s").expect("valid"),
            Target::Unix("/tmp/s".into())
        );
        assert_eq!(parse("nbd://localhost").expect("valid"), Target::Tcp("localhost:10809".into()));
        assert_eq!(parse("nbd://[::1]:7/x").expect("valid"), Target::Tcp("[::1]:7".into()));
        assert_eq!(parse("/tmp/s").expect("valid"), Target::Unix("/tmp/s".into()));
        assert!(
            parse("nbd://").is_err() && parse("nbd+unix:///x").is_err() && parse("word").is_err()
        );
    }
}
