//! The options of the handshake and what they change.

use super::reply::{HandshakeStep, OptionReplies};
use crate::error::ConnectionError;
use crate::export::Export;
use crate::wire::option::{ContextQuery, ExportQuery, OptionError, OptionRequest, rep};
use crate::wire::request::RequestLimits;
use crate::wire::{BASE_ALLOCATION, BASE_ALLOCATION_ID, Headers, MAX_PAYLOAD, info};

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

/// What client and server have agreed on so far.
pub(crate) struct Handshake<'a> {
    /// The only export.
    pub export: &'a Export,
    /// Decides whether the client may start the transmission phase.
    pub accept_start: &'a dyn Fn() -> StartDecision,
    /// The device's limits and what the options have set.
    pub limits: RequestLimits,
    /// Whether the reply to `OPT_EXPORT_NAME` ends without 124 zero bytes.
    pub no_zeroes: bool,
}

impl Handshake<'_> {
    /// Parses and answers one option. Returns the next step of the handshake.
    pub(crate) fn answer(
        &mut self,
        data: &[u8],
        replies: &mut OptionReplies<'_>,
    ) -> Result<HandshakeStep, ConnectionError> {
        let go_on = |()| HandshakeStep::Continue;
        let next = match OptionRequest::parse(replies.number, data) {
            Ok(OptionRequest::ExportName(name)) => return self.export_name(name, replies),
            Ok(OptionRequest::Abort) => Ok(HandshakeStep::Abort),
            Ok(OptionRequest::List) => {
                let name = self.export.name.as_bytes();
                let len = (name.len() as u32).to_be_bytes();
                replies.put(rep::SERVER, &[&len, name, self.export.description.as_bytes()]);
                Ok(HandshakeStep::Continue)
            }
            Ok(OptionRequest::Info(query)) => self.put_info(query, replies).map(go_on),
            Ok(OptionRequest::Go(query)) => self.go(query, replies),
            Ok(OptionRequest::StructuredReply) => self.structured_reply().map(go_on),
            Ok(OptionRequest::ExtendedHeaders) => {
                self.limits.headers = Headers::Extended;
                Ok(HandshakeStep::Continue)
            }
            Ok(OptionRequest::ListMetaContext(query)) => {
                self.list_contexts(query, replies).map(go_on)
            }
            Ok(OptionRequest::SetMetaContext(query)) => {
                self.set_contexts(query, replies).map(go_on)
            }
            Err(error) => Err(error),
        };
        Ok(replies.end(next))
    }

    /// Answers `OPT_EXPORT_NAME`. It has no error reply, so a wrong name or too many connections
    /// end the connection. Its reply has no header.
    fn export_name(
        &self,
        name: &[u8],
        replies: &mut OptionReplies<'_>,
    ) -> Result<HandshakeStep, ConnectionError> {
        if self.limits.headers == Headers::Extended {
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
        replies.write_buffer.put(&self.limits.size.0.to_be_bytes());
        replies.write_buffer.put(&self.flags());
        if !self.no_zeroes {
            replies.write_buffer.put(&EXPORT_NAME_PADDING);
        }
        Ok(HandshakeStep::Transmit)
    }

    /// Answers `OPT_GO`: enters the transmission phase if the export exists and a connection is
    /// free.
    fn go(
        &self,
        query: ExportQuery<'_>,
        replies: &mut OptionReplies<'_>,
    ) -> Result<HandshakeStep, OptionError> {
        self.check_name(query.name)?;
        match (self.accept_start)() {
            StartDecision::Accept => {
                self.put_info(query, replies).map(|()| HandshakeStep::Transmit)
            }
            StartDecision::Reject => Err(OptionError::TooManyConnections),
        }
    }

    /// Answers `OPT_STRUCTURED_REPLY`. Extended headers include structured replies and cannot be
    /// turned off again.
    fn structured_reply(&mut self) -> Result<(), OptionError> {
        if self.limits.headers == Headers::Extended {
            return Err(OptionError::ExtendedHeaders);
        }
        self.limits.headers = Headers::Structured;
        Ok(())
    }

    /// Answers `OPT_INFO` and `OPT_GO`. `INFO_EXPORT` is mandatory; the others follow if the
    /// client asks for them.
    fn put_info(
        &self,
        query: ExportQuery<'_>,
        replies: &mut OptionReplies<'_>,
    ) -> Result<(), OptionError> {
        self.check_name(query.name)?;
        replies.info(info::EXPORT, [&self.limits.size.0.to_be_bytes(), &self.flags()]);
        if query.asks(info::NAME) {
            replies.info(info::NAME, [self.export.name.as_bytes(), &[]]);
        }
        if query.asks(info::DESCRIPTION) {
            replies.info(info::DESCRIPTION, [self.export.description.as_bytes(), &[]]);
        }
        if query.asks(info::BLOCK_SIZE) {
            let device = self.export.device.block_sizes();
            let sizes = [device.minimum, device.preferred, MAX_PAYLOAD].map(u32::to_be_bytes);
            replies.info(info::BLOCK_SIZE, [sizes.as_flattened(), &[]]);
        }
        Ok(())
    }

    /// Answers `OPT_LIST_META_CONTEXT`. The query `base:` lists all contexts of that namespace;
    /// it selects none in [`Self::set_contexts`].
    fn list_contexts(
        &self,
        query: ContextQuery<'_>,
        replies: &mut OptionReplies<'_>,
    ) -> Result<(), OptionError> {
        self.check_name(query.name)?;
        let is_listed = |name: &[u8]| name == b"base:" || name == BASE_ALLOCATION.as_bytes();
        if query.contexts().next().is_none() || query.contexts().any(is_listed) {
            replies.put(rep::META_CONTEXT, &[&0_u32.to_be_bytes(), BASE_ALLOCATION.as_bytes()]);
        }
        Ok(())
    }

    /// Answers `OPT_SET_META_CONTEXT`. It replaces the earlier selection, even if it fails.
    fn set_contexts(
        &mut self,
        query: ContextQuery<'_>,
        replies: &mut OptionReplies<'_>,
    ) -> Result<(), OptionError> {
        self.limits.allocation = false;
        if !self.limits.headers.has_chunks() {
            return Err(OptionError::NoChunks);
        }
        self.check_name(query.name)?;
        if query.contexts().any(|name| name == BASE_ALLOCATION.as_bytes()) {
            self.limits.allocation = true;
            let id = BASE_ALLOCATION_ID.to_be_bytes();
            replies.put(rep::META_CONTEXT, &[&id, BASE_ALLOCATION.as_bytes()]);
        }
        Ok(())
    }

    fn check_name(&self, name: &[u8]) -> Result<(), OptionError> {
        if self.export.has_name(name) { Ok(()) } else { Err(OptionError::UnknownExport) }
    }

    fn flags(&self) -> [u8; 2] {
        self.export.transmission_flags(self.limits.headers).to_be_bytes()
    }
}
