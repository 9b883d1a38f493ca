//! The options of the handshake and what they change.

use super::reply::OptionReplies;
use crate::connection_error::ConnectionError;
use crate::export::{Export, Negotiated};
use crate::wire::option::{ContextQuery, ExportQuery, OptionError, OptionRequest};
use crate::wire::{BASE_ALLOCATION, BASE_ALLOCATION_ID, Headers, info, rep};

/// Zeros after the reply to `OPT_EXPORT_NAME` for clients without `NO_ZEROES`.
const EXPORT_NAME_PADDING: [u8; 124] = [0; 124];

/// The decision whether a client may start the transmission phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartDecision {
    /// The client may start.
    Accept,
    /// The limit on connections is reached. The client gets an error and may ask again.
    Reject,
}

/// The next step of the handshake after an option.
pub(crate) enum HandshakeStep {
    /// Wait for another option.
    Continue,
    /// Enter the transmission phase.
    Transmit,
    /// End the connection.
    Abort,
}

/// Whether the reply to `OPT_EXPORT_NAME` ends with 124 zero bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// It does.
    Zeroes,
    /// It does not: the client set `NO_ZEROES`.
    Omitted,
}

/// What client and server have agreed on so far.
pub(crate) struct Handshake<'a> {
    /// The only export.
    pub export: &'a Export,
    /// Decides whether the client may start the transmission phase.
    pub accept_start: &'a dyn Fn() -> StartDecision,
    /// What the options have set.
    pub negotiated: Negotiated,
    /// Whether the reply to `OPT_EXPORT_NAME` is padded.
    pub padding: Padding,
}

impl Handshake<'_> {
    /// Parses and answers one option. Returns the next step of the handshake.
    pub(crate) fn answer(
        &mut self,
        number: u32,
        data: &[u8],
        replies: &mut OptionReplies<'_>,
    ) -> Result<HandshakeStep, ConnectionError> {
        match OptionRequest::parse(number, data) {
            Ok(OptionRequest::Abort) => {
                replies.ack();
                return Ok(HandshakeStep::Abort);
            }
            Ok(OptionRequest::ExportName(name)) => return self.export_name(name, replies),
            Ok(OptionRequest::List) => self.list(replies),
            Ok(OptionRequest::Info(query)) => {
                self.put_info(query, replies);
            }
            Ok(OptionRequest::Go(query)) => return Ok(self.go(query, replies)),
            Ok(OptionRequest::StructuredReply) => self.structured_reply(replies),
            Ok(OptionRequest::ExtendedHeaders) => {
                self.negotiated.headers = Headers::Extended;
                replies.ack();
            }
            Ok(OptionRequest::ListMetaContext(query)) => self.list_contexts(query, replies),
            Ok(OptionRequest::SetMetaContext(query)) => self.set_contexts(query, replies),
            Err(error @ OptionError::Unknown { .. }) => {
                replies.refuse(rep::ERR_UNSUP, &error.to_string())
            }
            Err(error @ OptionError::Malformed { .. }) => {
                replies.refuse(rep::ERR_INVALID, &error.to_string())
            }
        }
        Ok(HandshakeStep::Continue)
    }

    /// Answers `OPT_GO`: enters the transmission phase if the export exists and a connection is
    /// free.
    fn go(&self, query: ExportQuery<'_>, replies: &mut OptionReplies<'_>) -> HandshakeStep {
        if self.export.has_name(query.name) && (self.accept_start)() == StartDecision::Reject {
            replies.refuse(rep::ERR_POLICY, "too many connections: try again later");
            return HandshakeStep::Continue;
        }
        if self.put_info(query, replies) {
            HandshakeStep::Transmit
        } else {
            HandshakeStep::Continue
        }
    }

    /// Answers `OPT_EXPORT_NAME`. It has no error reply, so a wrong name or too many connections
    /// end the connection.
    fn export_name(
        &mut self,
        name: &[u8],
        replies: &mut OptionReplies<'_>,
    ) -> Result<HandshakeStep, ConnectionError> {
        if self.negotiated.headers == Headers::Extended {
            return Err(ConnectionError::ProtocolViolation {
                what: "OPT_EXPORT_NAME with extended headers",
            });
        }
        if !self.export.has_name(name) {
            return Err(ConnectionError::UnknownExport);
        }
        if (self.accept_start)() == StartDecision::Reject {
            return Err(ConnectionError::TooManyConnections);
        }
        let size = self.export.device.size().0.to_be_bytes();
        let flags = self.export.transmission_flags(self.negotiated).to_be_bytes();
        let padding = match self.padding {
            Padding::Zeroes => EXPORT_NAME_PADDING.as_slice(),
            Padding::Omitted => &[],
        };
        replies.export_name(&[&size, &flags, padding]);
        Ok(HandshakeStep::Transmit)
    }

    /// Answers `OPT_STRUCTURED_REPLY`. Extended headers include structured replies and cannot be
    /// turned off again.
    fn structured_reply(&mut self, replies: &mut OptionReplies<'_>) {
        if self.negotiated.headers == Headers::Extended {
            return replies.refuse(rep::ERR_EXT_HEADER_REQD, "extended headers are in use");
        }
        self.negotiated.headers = Headers::Structured;
        replies.ack();
    }

    fn list(&self, replies: &mut OptionReplies<'_>) {
        let name = self.export.name.as_bytes();
        replies.put(
            rep::SERVER,
            &[&(name.len() as u32).to_be_bytes(), name, self.export.description.as_bytes()],
        );
        replies.ack();
    }

    /// Answers `OPT_INFO` and `OPT_GO` with the information asked for. Returns whether the export
    /// exists.
    fn put_info(&self, query: ExportQuery<'_>, replies: &mut OptionReplies<'_>) -> bool {
        if !self.export.has_name(query.name) {
            replies.refuse(rep::ERR_UNKNOWN, "no such export");
            return false;
        }
        // `INFO_EXPORT` is mandatory; the others follow if the client asks for them.
        let size = self.export.device.size().0.to_be_bytes();
        replies.info(
            info::EXPORT,
            [&size, &self.export.transmission_flags(self.negotiated).to_be_bytes()],
        );
        if query.asks(info::NAME) {
            replies.info(info::NAME, [self.export.name.as_bytes(), &[]]);
        }
        if query.asks(info::DESCRIPTION) {
            replies.info(info::DESCRIPTION, [self.export.description.as_bytes(), &[]]);
        }
        if query.asks(info::BLOCK_SIZE) {
            let sizes = self.export.block_sizes().map(u32::to_be_bytes);
            replies.info(info::BLOCK_SIZE, [sizes.as_flattened(), &[]]);
        }
        replies.ack();
        true
    }

    /// Answers `OPT_LIST_META_CONTEXT`. The query `base:` lists all contexts of that namespace;
    /// it selects none in [`Self::set_contexts`].
    fn list_contexts(&self, query: ContextQuery<'_>, replies: &mut OptionReplies<'_>) {
        if !self.export.has_name(query.name) {
            return replies.refuse(rep::ERR_UNKNOWN, "no such export");
        }
        if query.is_empty()
            || query.names().any(|name| name == b"base:" || name == BASE_ALLOCATION.as_bytes())
        {
            replies.put(rep::META_CONTEXT, &[&0_u32.to_be_bytes(), BASE_ALLOCATION.as_bytes()]);
        }
        replies.ack();
    }

    /// Answers `OPT_SET_META_CONTEXT`. It replaces the earlier selection, even if it fails.
    fn set_contexts(&mut self, query: ContextQuery<'_>, replies: &mut OptionReplies<'_>) {
        self.negotiated = Negotiated { allocation: false, ..self.negotiated };
        if !self.negotiated.headers.has_chunks() {
            return replies.refuse(
                rep::ERR_INVALID,
                "metadata contexts need structured replies or extended headers",
            );
        }
        if !self.export.has_name(query.name) {
            return replies.refuse(rep::ERR_UNKNOWN, "no such export");
        }
        if query.names().any(|name| name == BASE_ALLOCATION.as_bytes()) {
            self.negotiated.allocation = true;
            replies.put(
                rep::META_CONTEXT,
                &[&BASE_ALLOCATION_ID.to_be_bytes(), BASE_ALLOCATION.as_bytes()],
            );
        }
        replies.ack();
    }
}
