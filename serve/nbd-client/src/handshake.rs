//! The handshake: asks for the default export and enters transmission.

use crate::error::ClientError;
use crate::stream::Stream;
use crate::wire;

/// What a server says about its export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Size of the export. Units: bytes.
    pub size: u64,
    /// The transmission flags, `NBD_FLAG_*`.
    pub flags: u16,
}

impl Export {
    /// Returns whether the server offers trim requests.
    #[must_use]
    pub fn supports_trim(self) -> bool {
        self.flags & wire::FLAG_SEND_TRIM != 0
    }
}

/// Runs the handshake on a new connection.
pub(crate) fn negotiate(stream: &mut Stream) -> Result<Export, ClientError> {
    if take(stream)? != wire::GREETING {
        return Err(ClientError::Protocol { what: "not a newstyle NBD server" });
    }
    // A client must not set a flag that the server has not set.
    let flags = u16::from_be_bytes(take(stream)?) & wire::HANDSHAKE_FLAGS;
    if flags & wire::FIXED_NEWSTYLE == 0 {
        return Err(ClientError::Protocol { what: "the server does not speak fixed newstyle" });
    }
    let mut hello = u32::from(flags).to_be_bytes().to_vec();
    hello.extend(wire::OPTION_MAGIC);
    hello.extend(wire::OPT_GO.to_be_bytes());
    // Data: an empty name (4 bytes of length) and no information requests (2 bytes of count).
    hello.extend(6_u32.to_be_bytes());
    hello.extend([0; 6]);
    stream.write_all(&hello)?;
    receive_export(stream)
}

/// Receives the replies to `NBD_OPT_GO`: any number of information replies, then the end.
fn receive_export(stream: &mut Stream) -> Result<Export, ClientError> {
    let mut export = None;
    loop {
        if take(stream)? != wire::OPTION_REPLY_MAGIC || take_u32(stream)? != wire::OPT_GO {
            return Err(ClientError::Protocol { what: "not a reply to the option sent" });
        }
        let (reply, len) = (take_u32(stream)?, take_u32(stream)?);
        if len > wire::MAX_OPTION_REPLY {
            return Err(ClientError::Protocol { what: "an option reply is too long" });
        }
        let mut data = vec![0; len as usize];
        stream.read_exact(&mut data)?;
        match reply {
            wire::REP_ACK => {
                return export.ok_or(ClientError::Protocol { what: "no size of the export" });
            }
            wire::REP_INFO => export = export_info(&data).or(export),
            reply if reply & wire::REP_ERROR_BIT != 0 => {
                let text = String::from_utf8_lossy(&data).into_owned();
                return Err(ClientError::Refused { reply, text });
            }
            _ => return Err(ClientError::Protocol { what: "an unknown option reply" }),
        }
    }
}

/// Decodes the information `NBD_INFO_EXPORT`, number 0; returns `None` for any other.
fn export_info(data: &[u8]) -> Option<Export> {
    let [0, 0, size @ .., f0, f1] = data else { return None };
    let size = u64::from_be_bytes(size.try_into().ok()?);
    Some(Export { size, flags: u16::from_be_bytes([*f0, *f1]) })
}

fn take<const N: usize>(stream: &mut Stream) -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take_u32(stream: &mut Stream) -> Result<u32, ClientError> {
    Ok(u32::from_be_bytes(take(stream)?))
}
