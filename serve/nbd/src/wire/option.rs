//! Options of the handshake: parses an option's number and data into an [`OptionRequest`].

use thiserror::Error;

use super::fields::Fields;

/// Length of an option's header. Units: bytes.
pub const OPTION_LEN: usize = 16;

/// Option numbers.
pub mod opt {
    /// Choose an export and start the transmission phase; has no error reply.
    pub const EXPORT_NAME: u32 = 1;
    /// End the connection.
    pub const ABORT: u32 = 2;
    /// List the exports.
    pub const LIST: u32 = 3;
    /// Get information about an export.
    pub const INFO: u32 = 6;
    /// Get information about an export and start the transmission phase.
    pub const GO: u32 = 7;
    /// Use structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// List the metadata contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Select metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Use extended headers.
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// A query for information about an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportQuery<'a> {
    /// The export's name as received.
    pub name: &'a [u8],
    asked: &'a [u8],
}

impl ExportQuery<'_> {
    /// Returns whether the client asks for this type of information.
    #[must_use]
    pub fn asks(&self, kind: u16) -> bool {
        self.asked.chunks_exact(2).any(|pair| pair == kind.to_be_bytes())
    }
}

/// A query for metadata contexts of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextQuery<'a> {
    /// The export's name as received.
    pub name: &'a [u8],
    count: u32,
    queries: &'a [u8],
}

impl<'a> ContextQuery<'a> {
    /// Returns whether the query names no context.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the names, in the client's order.
    pub fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut fields = Fields::new(self.queries);
        (0..self.count).map_while(move |_| fields.string())
    }
}

/// A parsed option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionRequest<'a> {
    /// Start the transmission phase with this export.
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

/// An error of parsing an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OptionError {
    /// The option is unknown or not supported.
    #[error("option {number} is not supported")]
    Unknown {
        /// The option's number.
        number: u32,
    },
    /// The option's data do not have the form that the protocol defines.
    #[error("the data of option {number} are malformed")]
    Malformed {
        /// The option's number.
        number: u32,
    },
}

impl<'a> OptionRequest<'a> {
    /// Returns whether the server supports the option.
    #[must_use]
    pub fn is_known(number: u32) -> bool {
        matches!(
            number,
            opt::EXPORT_NAME | opt::ABORT | opt::LIST | opt::INFO..=opt::EXTENDED_HEADERS
        )
    }

    /// Parses an option's data.
    ///
    /// # Errors
    /// [`OptionError`]: the caller replies with an error and continues after the data.
    pub fn parse(number: u32, data: &'a [u8]) -> Result<Self, OptionError> {
        let malformed = OptionError::Malformed { number };
        match number {
            opt::EXPORT_NAME => Ok(Self::ExportName(data)),
            opt::ABORT => Ok(Self::Abort),
            opt::LIST if data.is_empty() => Ok(Self::List),
            opt::STRUCTURED_REPLY if data.is_empty() => Ok(Self::StructuredReply),
            opt::EXTENDED_HEADERS if data.is_empty() => Ok(Self::ExtendedHeaders),
            opt::INFO => export_query(data).map(Self::Info).ok_or(malformed),
            opt::GO => export_query(data).map(Self::Go).ok_or(malformed),
            opt::LIST_META_CONTEXT => {
                context_query(data).map(Self::ListMetaContext).ok_or(malformed)
            }
            opt::SET_META_CONTEXT => context_query(data).map(Self::SetMetaContext).ok_or(malformed),
            opt::LIST | opt::STRUCTURED_REPLY | opt::EXTENDED_HEADERS => Err(malformed),
            _ => Err(OptionError::Unknown { number }),
        }
    }
}

fn export_query(data: &[u8]) -> Option<ExportQuery<'_>> {
    let mut fields = Fields::new(data);
    let name = fields.string()?;
    let count = usize::from(fields.u16()?);
    let asked = fields.bytes(count * 2)?;
    fields.is_empty().then_some(ExportQuery { name, asked })
}

fn context_query(data: &[u8]) -> Option<ContextQuery<'_>> {
    let mut fields = Fields::new(data);
    let name = fields.string()?;
    let count = fields.u32()?;
    let mut rest = fields;
    // Each query takes at least 4 bytes, so a false count ends with the data.
    for _ in 0..count {
        rest.string()?;
    }
    if !rest.is_empty() {
        return None;
    }
    let start = data.len().checked_sub(fields.len())?;
    Some(ContextQuery { name, count, queries: &data[start..] })
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

    #[test]
    fn known_numbers_are_exactly_those_that_parse() {
        for number in 0..64 {
            let unknown =
                matches!(OptionRequest::parse(number, &[]), Err(OptionError::Unknown { .. }));
            assert_eq!(unknown, !OptionRequest::is_known(number), "option {number}");
        }
    }
}
