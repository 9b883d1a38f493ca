//! A connection in the transmission phase: requests and their replies.

use std::io::{self, IoSlice, Read, Write};

use crate::error::ClientError;
use crate::handshake::{self, Export};
use crate::stream::{self, Stream, Target};
use crate::wire::{self, Command, Request};

/// First size of the receive buffer, which grows for longer replies. Units: bytes.
const RECEIVE_BUFFER: usize = 256 << 10;

/// A connection to an export. The caller keeps a `T` with each request.
#[derive(Debug)]
pub struct Connection<T> {
    stream: Stream,
    export: Export,
    /// The requests without a reply; the index of a request is its cookie.
    in_flight: Vec<Option<(Request, T)>>,
    /// Indices of `in_flight` without a request.
    free: Vec<usize>,
    /// Indices and headers of the requests that are not sent yet.
    queued: Vec<(usize, [u8; wire::REQUEST_LEN])>,
    /// The bytes from `start` to `end` are received and not processed.
    received: Vec<u8>,
    start: usize,
    end: usize,
}

/// The reply to a successful request.
#[derive(Debug)]
pub struct Reply<'a, T> {
    /// The request.
    pub request: Request,
    /// What the caller keeps with the request.
    pub tag: T,
    /// The bytes that a read returns; empty for other requests.
    pub data: &'a [u8],
}

impl<T: Copy> Connection<T> {
    /// Connects, asks for the default export and enters transmission.
    ///
    /// # Errors
    /// All but [`ClientError::Address`] and [`ClientError::Failed`].
    pub fn open(target: &Target) -> Result<Self, ClientError> {
        let mut stream = stream::connect(target)?;
        let export = handshake::negotiate(&mut stream)?;
        Ok(Self {
            stream,
            export,
            in_flight: Vec::new(),
            free: Vec::new(),
            queued: Vec::new(),
            received: vec![0; RECEIVE_BUFFER],
            start: 0,
            end: 0,
        })
    }

    /// Returns what the server said about the export.
    #[must_use]
    pub fn export(&self) -> Export {
        self.export
    }

    /// Returns the number of requests without a reply, the queued ones included.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.in_flight.len() - self.free.len()
    }

    /// Returns the requests without a reply and what the caller keeps with them.
    pub fn in_flight(&self) -> impl Iterator<Item = &(Request, T)> {
        self.in_flight.iter().flatten()
    }

    /// Queues a request for the next [`send`](Self::send). The caller limits their number: a
    /// server that cannot send its replies may stop receiving requests.
    pub fn queue(&mut self, request: Request, tag: T) {
        let cookie = self.free.pop().unwrap_or_else(|| {
            self.in_flight.push(None);
            self.in_flight.len() - 1
        });
        let Request { command, offset, len } = request;
        self.queued.push((cookie, wire::header(command as u16, cookie as u64, offset, len)));
        self.in_flight[cookie] = Some((request, tag));
    }

    /// Sends all queued requests, in as few calls as the socket takes. `payload` returns the
    /// pieces of a write's content, which must have the length of the request.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn send<'a, P: IntoIterator<Item = &'a [u8]>>(
        &mut self,
        mut payload: impl FnMut(&Request, &T) -> P,
    ) -> Result<(), ClientError> {
        let mut slices = Vec::with_capacity(self.queued.len() * 2);
        for (cookie, header) in &self.queued {
            slices.push(IoSlice::new(header));
            if let Some((request, tag)) = &self.in_flight[*cookie]
                && request.command == Command::Write
            {
                let mut len = 0;
                for piece in payload(request, tag) {
                    slices.push(IoSlice::new(piece));
                    len += piece.len();
                }
                debug_assert_eq!(len, request.len as usize, "the payload of {request:?}");
            }
        }
        stream::write_all(&mut self.stream, &mut slices)?;
        self.queued.clear();
        Ok(())
    }

    /// Waits until the server sends something. Call it when [`next_reply`](Self::next_reply) has
    /// returned `None`.
    ///
    /// # Errors
    /// [`ClientError::Closed`], [`ClientError::Io`].
    pub fn receive(&mut self) -> Result<(), ClientError> {
        // Move the first part of an incomplete reply to the front. If it fills the buffer, the
        // reply is longer.
        self.received.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.received.len() {
            self.received.resize(2 * self.end, 0);
        }
        match self.stream.read(&mut self.received[self.end..]) {
            Ok(0) => Err(ClientError::Closed),
            Ok(more) => {
                self.end += more;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the next reply that has been received completely, or `None`.
    ///
    /// # Errors
    /// [`ClientError::Failed`] if the server failed to execute the request;
    /// [`ClientError::Protocol`].
    pub fn next_reply(&mut self) -> Result<Option<Reply<'_, T>>, ClientError> {
        let received = &self.received[self.start..self.end];
        let Some((head, data)) = received.split_first_chunk() else { return Ok(None) };
        let (error, cookie) =
            wire::simple_reply(head).ok_or(ClientError::Protocol { what: "not a simple reply" })?;
        let cookie = usize::try_from(cookie).unwrap_or(usize::MAX);
        let Some(&Some((request, tag))) = self.in_flight.get(cookie) else {
            return Err(ClientError::Protocol { what: "a reply without a request" });
        };
        // Only a successful read has data.
        let is_read = error == 0 && request.command == Command::Read;
        let len = if is_read { request.len as usize } else { 0 };
        let Some(data) = data.get(..len) else { return Ok(None) };
        // The reply is complete: its cookie may be used again.
        self.start += wire::REPLY_LEN + len;
        self.in_flight[cookie] = None;
        self.free.push(cookie);
        if error != 0 {
            let errno = i32::try_from(error).unwrap_or(i32::MAX);
            let source = io::Error::from_raw_os_error(errno);
            return Err(ClientError::Failed { request, source });
        }
        Ok(Some(Reply { request, tag, data }))
    }
}

impl<T> Drop for Connection<T> {
    /// Ends the connection in an orderly way, unless it broke or has requests in flight.
    fn drop(&mut self) {
        if self.in_flight.len() == self.free.len() {
            // An error is ignored: the server may have closed the connection already.
            let _ = self.stream.write_all(&wire::header(wire::DISCONNECT, 0, 0, 0));
        }
    }
}
