//! Which threads are changing a balloon.
//!
//! A thread that inflates may make the zone short, and the zone then asks its shrinkers, of which the balloon is one: it would let out with one hand what
//! it takes in with the other. And a host that calls back would wait for itself. So a thread is inside once, and knows it.

use sync::Mutex;
use sync::thread::{self, ThreadId};

#[derive(Debug, Default)]
pub(crate) struct ReentrancyCheck(Threads);

#[derive(Debug)]
struct Threads(Mutex<Vec<ThreadId>>);

impl Default for Threads {
    fn default() -> Self {
        Self(Mutex::ranked(sync::Rank::Leaf, Vec::new()))
    }
}

/// The calling thread is inside until this is dropped.
#[derive(Debug)]
pub(crate) struct ReentrancyGuard<'i> {
    reentrancy: &'i ReentrancyCheck,
    thread: ThreadId,
}

impl ReentrancyCheck {
    /// `None` when the calling thread is inside already.
    pub(crate) fn enter(&self) -> Option<ReentrancyGuard<'_>> {
        let thread = thread::current().id();
        let mut threads = self.0.0.lock();
        if threads.contains(&thread) {
            return None;
        }
        threads.push(thread);
        Some(ReentrancyGuard { reentrancy: self, thread })
    }
}

impl Drop for ReentrancyGuard<'_> {
    fn drop(&mut self) {
        self.reentrancy.0.0.lock().retain(|&thread| thread != self.thread);
    }
}
