//! What each option is answered.

use super::{Admission, Haggler, Next, Zeroes};
use crate::channel::Outbox;
use crate::export::Terms;
use crate::hangup::Hangup;
use crate::wire::option::{ContextQuery, ExportQuery, OptionError, OptionRequest};
use crate::wire::{BASE_ALLOCATION, BASE_ALLOCATION_ID, Headers, OPTION_REPLY_MAGIC, info, rep};

/// Zeros after the answer to `OPT_EXPORT_NAME`, for clients that did not wave them off.
const PADDING: [u8; 124] = [0; 124];

/// Writes the replies to one option.
pub struct Answer<'a> {
    outbox: &'a mut Outbox,
    number: u32,
}

impl<'a> Answer<'a> {
    /// Answers option `number` into `outbox`.
    pub fn new(outbox: &'a mut Outbox, number: u32) -> Self {
        Self { outbox, number }
    }

    /// The option that is answered.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The option is done.
    pub fn ack(&mut self) {
        self.reply(rep::ACK, &[]);
    }

    /// The option is refused; `why` is for people.
    pub fn refuse(&mut self, kind: u32, why: &str) {
        self.reply(kind, &[why.as_bytes()]);
    }

    fn info(&mut self, kind: u16, parts: [&[u8]; 2]) {
        self.reply(rep::INFO, &[&kind.to_be_bytes(), parts[0], parts[1]]);
    }

    fn reply(&mut self, kind: u32, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.outbox.put(&OPTION_REPLY_MAGIC.to_be_bytes());
        self.outbox.put(&self.number.to_be_bytes());
        self.outbox.put(&kind.to_be_bytes());
        self.outbox.put(&(len as u32).to_be_bytes());
        parts.iter().for_each(|part| self.outbox.put(part));
    }
}

impl Haggler<'_> {
    /// Answers one option with its data.
    pub(super) fn answer(
        &mut self,
        number: u32,
        data: &[u8],
        answer: &mut Answer<'_>,
    ) -> Result<Next, Hangup> {
        match OptionRequest::parse(number, data) {
            Ok(OptionRequest::Abort) => {
                answer.ack();
                return Ok(Next::Leave);
            }
            Ok(OptionRequest::ExportName(name)) => return self.export_name(name, answer),
            Ok(OptionRequest::List) => self.list(answer),
            Ok(OptionRequest::Info(query)) => {
                self.tell(query, answer);
            }
            Ok(OptionRequest::Go(query)) => return Ok(self.go(query, answer)),
            Ok(OptionRequest::StructuredReply) => self.structured_reply(answer),
            Ok(OptionRequest::ExtendedHeaders) => {
                self.terms.headers = Headers::Extended;
                answer.ack();
            }
            Ok(OptionRequest::ListMetaContext(query)) => self.list_contexts(query, answer),
            Ok(OptionRequest::SetMetaContext(query)) => self.set_contexts(query, answer),
            Err(error @ OptionError::Unknown { .. }) => {
                answer.refuse(rep::ERR_UNSUP, &error.to_string())
            }
            Err(error @ OptionError::Malformed { .. }) => {
                answer.refuse(rep::ERR_INVALID, &error.to_string())
            }
        }
        Ok(Next::Option)
    }

    /// Starts, if there is such an export and a seat.
    fn go(&self, query: ExportQuery<'_>, answer: &mut Answer<'_>) -> Next {
        if self.export.answers_to(query.name) && (self.admission)() == Admission::Full {
            answer.refuse(rep::ERR_POLICY, "too many connections: try again later");
            return Next::Option;
        }
        if self.tell(query, answer) { Next::Start } else { Next::Option }
    }

    /// The old way to start: no errors can be told, so a wrong name or the lack of a seat ends the connection.
    fn export_name(&mut self, name: &[u8], answer: &mut Answer<'_>) -> Result<Next, Hangup> {
        if self.terms.headers == Headers::Extended {
            return Err(Hangup::Garbage { what: "the old way to start, with extended headers" });
        }
        if !self.export.answers_to(name) {
            return Err(Hangup::NoExport);
        }
        if (self.admission)() == Admission::Full {
            return Err(Hangup::NoSeat);
        }
        answer.outbox.put(&self.export.device.size().0.to_be_bytes());
        answer.outbox.put(&self.export.transmission_flags(self.terms).to_be_bytes());
        if self.zeroes == Zeroes::Padded {
            answer.outbox.put(&PADDING);
        }
        Ok(Next::Start)
    }

    /// Extended headers imply chunks, and there is no way back from them.
    fn structured_reply(&mut self, answer: &mut Answer<'_>) {
        if self.terms.headers == Headers::Extended {
            return answer.refuse(rep::ERR_EXT_HEADER_REQD, "extended headers are in use");
        }
        self.terms.headers = Headers::Structured;
        answer.ack();
    }

    fn list(&self, answer: &mut Answer<'_>) {
        let name = self.export.name.as_bytes();
        answer.reply(
            rep::SERVER,
            &[&(name.len() as u32).to_be_bytes(), name, self.export.description.as_bytes()],
        );
        answer.ack();
    }

    /// `INFO` and `GO` are told the same. Returns whether the export exists.
    fn tell(&self, query: ExportQuery<'_>, answer: &mut Answer<'_>) -> bool {
        if !self.export.answers_to(query.name) {
            answer.refuse(rep::ERR_UNKNOWN, "no such export");
            return false;
        }
        let size = self.export.device.size().0.to_be_bytes();
        answer
            .info(info::EXPORT, [&size, &self.export.transmission_flags(self.terms).to_be_bytes()]);
        if query.asks(info::NAME) {
            answer.info(info::NAME, [self.export.name.as_bytes(), &[]]);
        }
        if query.asks(info::DESCRIPTION) {
            answer.info(info::DESCRIPTION, [self.export.description.as_bytes(), &[]]);
        }
        if query.asks(info::BLOCK_SIZE) {
            let sizes = self.export.block_sizes().map(u32::to_be_bytes);
            answer.info(info::BLOCK_SIZE, [sizes.as_flattened(), &[]]);
        }
        answer.ack();
        true
    }

    /// `base:` names the namespace and is answered here, but selects nothing below.
    fn list_contexts(&self, query: ContextQuery<'_>, answer: &mut Answer<'_>) {
        if !self.export.answers_to(query.name) {
            return answer.refuse(rep::ERR_UNKNOWN, "no such export");
        }
        if query.is_empty()
            || query.names().any(|name| name == b"base:" || name == BASE_ALLOCATION.as_bytes())
        {
            answer.reply(rep::META_CONTEXT, &[&0_u32.to_be_bytes(), BASE_ALLOCATION.as_bytes()]);
        }
        answer.ack();
    }

    /// Replaces what was selected before, also when it fails.
    fn set_contexts(&mut self, query: ContextQuery<'_>, answer: &mut Answer<'_>) {
        self.terms = Terms { allocation: false, ..self.terms };
        if !self.terms.headers.has_chunks() {
            return answer.refuse(
                rep::ERR_INVALID,
                "metadata contexts need structured replies or extended headers",
            );
        }
        if !self.export.answers_to(query.name) {
            return answer.refuse(rep::ERR_UNKNOWN, "no such export");
        }
        if query.names().any(|name| name == BASE_ALLOCATION.as_bytes()) {
            self.terms.allocation = true;
            answer.reply(
                rep::META_CONTEXT,
                &[&BASE_ALLOCATION_ID.to_be_bytes(), BASE_ALLOCATION.as_bytes()],
            );
        }
        answer.ack();
    }
}
