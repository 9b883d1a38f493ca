//! The set of threads that are changing a balloon; each enters it at most once.
//!
//! A thread that inflates may make the zone short of memory. The zone then asks its shrinkers, and
//! the balloon is one: without this check it would deflate while it inflates. A host that calls
//! back would wait for itself.

use sync::Mutex;
use sync::thread::{self, ThreadId};

/// The threads that are inside the balloon.
#[derive(Debug)]
pub(crate) struct ReentrancyCheck(Mutex<Vec<ThreadId>>);

impl Default for ReentrancyCheck {
    fn default() -> Self {
        Self(Mutex::ranked(sync::Rank::Leaf, Vec::new()))
    }
}

/// A guard: its thread is inside until this is dropped.
#[derive(Debug)]
pub(crate) struct ReentrancyGuard<'i> {
    reentrancy: &'i ReentrancyCheck,
    thread: ThreadId,
}

impl ReentrancyCheck {
    /// Enters the balloon, or returns `None` when the calling thread is inside already.
    pub(crate) fn enter(&self) -> Option<ReentrancyGuard<'_>> {
        let thread = thread::current().id();
        let mut threads = self.0.lock();
        if threads.contains(&thread) {
            return None;
        }
        threads.push(thread);
        Some(ReentrancyGuard { reentrancy: self, thread })
    }
}

impl Drop for ReentrancyGuard<'_> {
    fn drop(&mut self) {
        self.reentrancy.0.lock().retain(|&thread| thread != self.thread);
    }
}
