//! Connecting and the handshake.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::NbdError;
use super::wire;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The path of a unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl FromStr for Target {
    type Err = NbdError;

    /// Parses `nbd+unix:///export?socket=PATH`, `nbd://host:port/export`, or a plain path. The
    /// export name is ignored: the client asks for the default export.
    fn from_str(text: &str) -> Result<Self, NbdError> {
        let wrong = || NbdError::Address { text: text.to_owned() };
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

/// The socket of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buf),
            Self::Tcp(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write_vectored(bufs),
            Self::Tcp(stream) => stream.write_vectored(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection in the transmission phase.
#[derive(Debug)]
pub struct Connection {
    pub(super) stream: Stream,
    size: u64,
}

impl Connection {
    /// Connects, asks for the default export and enters transmission.
    ///
    /// # Errors
    /// [`NbdError::Connect`], [`NbdError::Protocol`], [`NbdError::Refused`].
    pub fn open(target: &Target) -> Result<Self, NbdError> {
        let connected = match target {
            Target::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Target::Tcp(host) => TcpStream::connect(host).and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }),
        };
        let stream =
            connected.map_err(|source| NbdError::Connect { target: target.to_string(), source })?;
        let mut connection = Self { stream, size: 0 };
        connection.greet()?;
        connection.go()?;
        Ok(connection)
    }

    /// Returns the size of the export. Units: bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    fn greet(&mut self) -> Result<(), NbdError> {
        if self.u64()? != wire::MAGIC || self.u64()? != wire::OPTION_MAGIC {
            return Err(NbdError::Protocol { what: "not a newstyle NBD server" });
        }
        if self.u16()? & 1 == 0 {
            return Err(NbdError::Protocol { what: "the server does not speak fixed newstyle" });
        }
        Ok(self.stream.write_all(&wire::CLIENT_FLAGS.to_be_bytes())?)
    }

    fn go(&mut self) -> Result<(), NbdError> {
        let mut option = wire::OPTION_MAGIC.to_be_bytes().to_vec();
        option.extend(wire::OPT_GO.to_be_bytes());
        // Data: an empty name (4 bytes of length) and no information requests (2 bytes of count).
        option.extend(6_u32.to_be_bytes());
        option.extend([0; 6]);
        self.stream.write_all(&option)?;
        loop {
            if self.u64()? != wire::OPTION_REPLY_MAGIC || self.u32()? != wire::OPT_GO {
                return Err(NbdError::Protocol { what: "not a reply to the option sent" });
            }
            let (reply, len) = (self.u32()?, self.u32()?);
            let mut data = vec![0; len.min(4096) as usize];
            self.stream.read_exact(&mut data)?;
            match reply {
                wire::REP_ACK => return Ok(()),
                wire::REP_INFO => self.info(&data),
                reply if reply & wire::REP_ERROR_BIT != 0 => {
                    return Err(NbdError::Refused { reply });
                }
                _ => {}
            }
        }
    }

    fn info(&mut self, data: &[u8]) {
        if let Some((kind, rest)) = data.split_first_chunk()
            && u16::from_be_bytes(*kind) == wire::INFO_EXPORT
            && let Some(size) = rest.first_chunk()
        {
            self.size = u64::from_be_bytes(*size);
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], NbdError> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, NbdError> {
        Ok(u16::from_be_bytes(self.bytes()?))
    }

    fn u32(&mut self) -> Result<u32, NbdError> {
        Ok(u32::from_be_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, NbdError> {
        Ok(u64::from_be_bytes(self.bytes()?))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // `NBD_CMD_DISC`. An error is ignored: the server may have closed the connection already.
        let _ = self.stream.write_all(&wire::request(wire::Command::Disconnect, 0, 0, 0));
    }
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
