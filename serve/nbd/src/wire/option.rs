//! Options of the handshake: parses an option's number and data into an [`OptionRequest`].

use thiserror::Error;

use super::fields::Fields;

/// Length of an option's header. Units: bytes.
pub(crate) const OPTION_LEN: usize = 16;
/// Magic number of each option reply.
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// Option numbers, which [`OptionRequest`] explains.
pub(crate) mod opt {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
    pub(crate) const EXTENDED_HEADERS: u32 = 11;
}

/// Types of option replies. [`OptionError`] explains the errors.
pub(crate) mod rep {
    pub(crate) const ACK: u32 = 1;
    /// One export of the list.
    pub(crate) const SERVER: u32 = 2;
    /// One piece of information.
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERR_UNSUP: u32 = (1 << 31) + 1;
    pub(crate) const ERR_POLICY: u32 = (1 << 31) + 2;
    pub(crate) const ERR_INVALID: u32 = (1 << 31) + 3;
    pub(crate) const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    pub(crate) const ERR_SHUTDOWN: u32 = (1 << 31) + 7;
    pub(crate) const ERR_TOO_BIG: u32 = (1 << 31) + 9;
    pub(crate) const ERR_EXT_HEADER_REQD: u32 = (1 << 31) + 10;
}

/// A query for information about an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExportQuery<'a> {
    /// The export's name as received.
    pub name: &'a [u8],
    asked: &'a [u8],
}

impl ExportQuery<'_> {
    /// Returns whether the client asks for this type of information.
    pub(crate) fn asks(&self, kind: u16) -> bool {
        self.asked.chunks_exact(2).any(|pair| pair == kind.to_be_bytes())
    }
}

/// A query for metadata contexts of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContextQuery<'a> {
    /// The export's name as received.
    pub name: &'a [u8],
    contexts: &'a [u8],
}

impl<'a> ContextQuery<'a> {
    /// Returns the names of the contexts, in the client's order.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut fields = Fields(self.contexts);
        std::iter::from_fn(move || fields.string())
    }
}

/// A parsed option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionRequest<'a> {
    /// Start the transmission phase with this export. The option has no error reply.
    ExportName(&'a [u8]),
    /// End the connection.
    Abort,
    /// List the exports.
    List,
    /// Get information about an export.
    Info(ExportQuery<'a>),
    /// Get information about an export and start the transmission phase.
    Go(ExportQuery<'a>),
    /// Use structured replies.
    StructuredReply,
    /// List metadata contexts.
    ListMetaContext(ContextQuery<'a>),
    /// Select metadata contexts.
    SetMetaContext(ContextQuery<'a>),
    /// Use extended headers.
    ExtendedHeaders,
}

/// The reason why an option is refused. Its text is sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum OptionError {
    #[error("option {number} is not supported")]
    Unknown { number: u32 },
    /// The option's data do not have the form that the protocol defines.
    #[error("the data of option {number} are malformed")]
    Malformed { number: u32 },
    #[error("option data are too long")]
    TooLong,
    #[error("no such export")]
    UnknownExport,
    #[error("extended headers are in use")]
    ExtendedHeaders,
    #[error("metadata contexts need structured replies or extended headers")]
    NoChunks,
    #[error("too many connections: try again later")]
    TooManyConnections,
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl OptionError {
    /// Returns the type of the error reply.
    pub(crate) fn reply_kind(self) -> u32 {
        match self {
            Self::Unknown { .. } => rep::ERR_UNSUP,
            Self::Malformed { .. } | Self::NoChunks => rep::ERR_INVALID,
            Self::TooLong => rep::ERR_TOO_BIG,
            Self::UnknownExport => rep::ERR_UNKNOWN,
            Self::ExtendedHeaders => rep::ERR_EXT_HEADER_REQD,
            Self::TooManyConnections => rep::ERR_POLICY,
            Self::ShuttingDown => rep::ERR_SHUTDOWN,
        }
    }
}

impl<'a> OptionRequest<'a> {
    /// Parses an option's data.
    ///
    /// # Errors
    /// [`OptionError::Unknown`] and [`OptionError::Malformed`].
    pub(crate) fn parse(number: u32, data: &'a [u8]) -> Result<Self, OptionError> {
        let parsed = match number {
            opt::EXPORT_NAME => Some(Self::ExportName(data)),
            opt::ABORT => Some(Self::Abort),
            opt::LIST => data.is_empty().then_some(Self::List),
            opt::INFO => export_query(data).map(Self::Info),
            opt::GO => export_query(data).map(Self::Go),
            opt::STRUCTURED_REPLY => data.is_empty().then_some(Self::StructuredReply),
            opt::LIST_META_CONTEXT => context_query(data).map(Self::ListMetaContext),
            opt::SET_META_CONTEXT => context_query(data).map(Self::SetMetaContext),
            opt::EXTENDED_HEADERS => data.is_empty().then_some(Self::ExtendedHeaders),
            _ => return Err(OptionError::Unknown { number }),
        };
        parsed.ok_or(OptionError::Malformed { number })
    }
}

fn export_query(data: &[u8]) -> Option<ExportQuery<'_>> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = usize::from(fields.u16()?);
    let asked = fields.bytes(count * 2)?;
    fields.0.is_empty().then_some(ExportQuery { name, asked })
}

fn context_query(data: &[u8]) -> Option<ContextQuery<'_>> {
    let mut fields = Fields(data);
    let (name, count) = (fields.string()?, fields.u32()?);
    let contexts = fields.0;
    // Each name takes at least 4 bytes, so a false count ends with the data.
    for _ in 0..count {
        fields.string()?;
    }
    fields.0.is_empty().then_some(ContextQuery { name, contexts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(name_len: u32, name: &[u8], infos: &[u16]) -> Vec<u8> {
        let mut data = name_len.to_be_bytes().to_vec();
        data.extend_from_slice(name);
        data.extend_from_slice(&u16::try_from(infos.len()).unwrap().to_be_bytes());
        infos.iter().for_each(|info| data.extend_from_slice(&info.to_be_bytes()));
        data
    }

    #[test]
    fn go_has_a_name_and_information_types() {
        let data = go(3, b"abc", &[1, 3]);
        let Ok(OptionRequest::Go(query)) = OptionRequest::parse(opt::GO, &data) else {
            panic!("the option must parse")
        };
        assert_eq!(query.name, b"abc");
        assert!(query.asks(1) && query.asks(3) && !query.asks(2));
    }

    #[test]
    fn a_name_longer_than_the_data_is_malformed() {
        let data = go(u32::MAX, b"abc", &[]);
        assert_eq!(
            OptionRequest::parse(opt::GO, &data),
            Err(OptionError::Malformed { number: opt::GO })
        );
    }

    #[test]
    fn a_false_query_count_is_malformed() {
        let mut data = 0_u32.to_be_bytes().to_vec();
        data.extend_from_slice(&1_000_000_u32.to_be_bytes());
        assert!(OptionRequest::parse(opt::SET_META_CONTEXT, &data).is_err());
    }
}
