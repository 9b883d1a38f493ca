//! A host that writes down what it is told, for tests. It checks that it is told sense.

#![cfg_attr(
    any(loom, shuttle),
    expect(dead_code, reason = "models look at what the host has, not at its log")
)]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

use crate::{Host, Loan, Piece, Refusal};

/// What the host was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Inflate(Vec<Piece>),
    Deflate(Vec<Piece>),
}

type Hook = Box<dyn Fn(&Message) + Send>;

#[derive(Default)]
pub(crate) struct Recorder {
    log: Mutex<Vec<Message>>,
    /// What it believes to have.
    has: Mutex<BTreeSet<Piece>>,
    /// The next so many inflations are refused.
    pub(crate) refuse: AtomicU32,
    /// Called inside each message, before it is written down.
    hook: Mutex<Option<Hook>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder(..)")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Recorder {
    pub(crate) fn log(&self) -> Vec<Message> {
        lock(&self.log).clone()
    }

    pub(crate) fn forget(&self) {
        lock(&self.log).clear();
    }

    pub(crate) fn has(&self) -> Vec<Piece> {
        lock(&self.has).iter().copied().collect()
    }

    pub(crate) fn hook(&self, hook: impl Fn(&Message) + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    pub(crate) fn unhook(&self) {
        lock(&self.hook).take();
    }

    fn hear(&self, message: Message) {
        if let Some(hook) = &*lock(&self.hook) {
            hook(&message);
        }
        lock(&self.log).push(message);
    }
}

impl Host for Recorder {
    fn inflate(&self, loan: &mut Loan<'_, '_>) -> Result<(), Refusal> {
        let refused = self.refuse.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if refused {
            return Err(Refusal::Declined { why: "as the test wants" });
        }
        let pieces: Vec<_> = loan.pieces().collect();
        assert!(pieces.len() <= crate::BATCH, "{} pieces in one message", pieces.len());
        self.hear(Message::Inflate(pieces.clone()));
        let mut has = lock(&self.has);
        for piece in pieces {
            assert!(has.insert(piece), "{piece} is the host's already");
        }
        Ok(())
    }

    fn deflate(&self, pieces: &[Piece]) {
        assert!(
            !pieces.is_empty() && pieces.len() <= crate::BATCH,
            "{} pieces in one message",
            pieces.len()
        );
        self.hear(Message::Deflate(pieces.to_vec()));
        let mut has = lock(&self.has);
        for piece in pieces {
            assert!(has.remove(piece), "the host never had {piece}");
        }
    }
}
