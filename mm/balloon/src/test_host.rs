//! A test host that records its messages and checks that they are consistent.

#![cfg_attr(
    any(loom, shuttle),
    expect(dead_code, reason = "models look at what the host has, not at its log")
)]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use frames::Zone;

use crate::{Balloon, BalloonConfig, FrameRange, Host, InflateBatch, InflateError};

/// A message to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Inflate(Vec<FrameRange>),
    Deflate(Vec<FrameRange>),
}

type Hook = Box<dyn Fn(&Message) + Send>;

#[derive(Default)]
pub(crate) struct RecordingHost {
    log: Mutex<Vec<Message>>,
    /// The ranges it has.
    has: Mutex<BTreeSet<FrameRange>>,
    /// The number of inflate messages it will refuse.
    pub(crate) refuse: AtomicU32,
    /// Called inside each message, before it is recorded.
    hook: Mutex<Option<Hook>>,
}

impl fmt::Debug for RecordingHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordingHost(..)")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl RecordingHost {
    /// Creates an empty balloon and its host.
    pub(crate) fn of_balloon(zone: &Arc<Zone>, config: BalloonConfig) -> (Arc<Balloon>, Arc<Self>) {
        let host = Arc::new(Self::default());
        let balloon =
            Balloon::new(Arc::clone(zone), host.clone(), config).expect("an owner ID is left");
        (balloon, host)
    }

    pub(crate) fn log(&self) -> Vec<Message> {
        lock(&self.log).clone()
    }

    pub(crate) fn clear_log(&self) {
        lock(&self.log).clear();
    }

    pub(crate) fn has(&self) -> Vec<FrameRange> {
        lock(&self.has).iter().copied().collect()
    }

    pub(crate) fn hook(&self, hook: impl Fn(&Message) + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    pub(crate) fn unhook(&self) {
        lock(&self.hook).take();
    }

    fn record(&self, message: Message) {
        if let Some(hook) = &*lock(&self.hook) {
            hook(&message);
        }
        lock(&self.log).push(message);
    }
}

impl Host for RecordingHost {
    fn inflate(&self, batch: &mut InflateBatch<'_, '_>) -> Result<(), InflateError> {
        let refused = self.refuse.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if refused {
            return Err(InflateError::Declined { why: "the test refuses" });
        }
        let ranges: Vec<_> = batch.ranges().collect();
        assert!(ranges.len() <= crate::MAX_BATCH, "{} ranges in one message", ranges.len());
        self.record(Message::Inflate(ranges.clone()));
        let mut has = lock(&self.has);
        for range in ranges {
            assert!(has.insert(range), "the host already has {range:?}");
        }
        Ok(())
    }

    fn deflate(&self, ranges: &[FrameRange]) {
        assert!(
            !ranges.is_empty() && ranges.len() <= crate::MAX_BATCH,
            "{} ranges in one message",
            ranges.len()
        );
        self.record(Message::Deflate(ranges.to_vec()));
        let mut has = lock(&self.has);
        for range in ranges {
            assert!(has.remove(range), "the host never had {range:?}");
        }
    }
}
