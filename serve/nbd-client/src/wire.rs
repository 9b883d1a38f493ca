//! Constants and messages of the NBD specification (doc/proto.md). All integers are big-endian.

/// First bytes of the handshake.
pub(crate) const GREETING: [u8; 16] = *b"NBDMAGICIHAVEOPT";
/// First bytes of an option.
pub(crate) const OPTION_MAGIC: [u8; 8] = *b"IHAVEOPT";
/// First bytes of an option reply.
pub(crate) const OPTION_REPLY_MAGIC: [u8; 8] = 0x0003_e889_0455_65a9_u64.to_be_bytes();
/// First word of a request.
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First word of a simple reply.
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// Handshake flag, both directions: options can get error replies.
pub(crate) const FIXED_NEWSTYLE: u16 = 1 << 0;
/// All handshake flags that this client knows, with `NBD_FLAG_NO_ZEROES`.
pub(crate) const HANDSHAKE_FLAGS: u16 = FIXED_NEWSTYLE | 1 << 1;
/// Transmission flag: the server offers trim requests.
pub(crate) const FLAG_SEND_TRIM: u16 = 1 << 5;
/// `NBD_OPT_GO`.
pub(crate) const OPT_GO: u32 = 7;
/// `NBD_REP_ACK`.
pub(crate) const REP_ACK: u32 = 1;
/// `NBD_REP_INFO`.
pub(crate) const REP_INFO: u32 = 3;
/// Bit that is set in every error reply to an option.
pub(crate) const REP_ERROR_BIT: u32 = 1 << 31;
/// Longest data of an option reply that is accepted. Units: bytes.
pub(crate) const MAX_OPTION_REPLY: u32 = 4096;

/// Length of a request. Units: bytes.
pub(crate) const REQUEST_LEN: usize = 28;
/// Length of a simple reply. Units: bytes.
pub(crate) const REPLY_LEN: usize = 16;

/// `NBD_CMD_DISC`
pub(crate) const DISCONNECT: u16 = 2;

/// The command of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// `NBD_CMD_READ`
    Read = 0,
    /// `NBD_CMD_WRITE`
    Write = 1,
    /// `NBD_CMD_TRIM`
    Trim = 4,
}

/// A request, without the payload of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// First byte of the export. Units: bytes.
    pub offset: u64,
    /// Units: bytes.
    pub len: u32,
}

/// Encodes a request's header.
pub(crate) fn header(command: u16, cookie: u64, offset: u64, len: u32) -> [u8; REQUEST_LEN] {
    let mut wire = [0; REQUEST_LEN];
    wire[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    wire[6..8].copy_from_slice(&command.to_be_bytes());
    wire[8..16].copy_from_slice(&cookie.to_be_bytes());
    wire[16..24].copy_from_slice(&offset.to_be_bytes());
    wire[24..].copy_from_slice(&len.to_be_bytes());
    wire
}

/// Decodes a simple reply into error and cookie; returns `None` when the magic is wrong.
pub(crate) fn simple_reply(wire: &[u8; REPLY_LEN]) -> Option<(u32, u64)> {
    let (head, cookie) = wire.split_at(8);
    let magic = u32::from_be_bytes(head[..4].try_into().ok()?);
    let error = u32::from_be_bytes(head[4..].try_into().ok()?);
    (magic == SIMPLE_REPLY_MAGIC).then_some((error, u64::from_be_bytes(cookie.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_every_field_in_its_place() {
        let wire = header(Command::Trim as u16, 0x0102_0304_0506_0708, 0x1000, 0x2000);
        assert_eq!(wire[..8], [0x25, 0x60, 0x95, 0x13, 0, 0, 0, 4]);
        assert_eq!(wire[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((wire[22], wire[26]), (0x10, 0x20));
    }

    #[test]
    fn a_reply_with_a_wrong_magic_is_none() {
        let mut wire = [0; REPLY_LEN];
        wire[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        wire[7] = 28;
        wire[15] = 9;
        assert_eq!(simple_reply(&wire), Some((28, 9)));
        wire[0] = 0;
        assert_eq!(simple_reply(&wire), None);
    }
}
