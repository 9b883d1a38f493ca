//! Which threads are changing a balloon.
//!
//! A thread that inflates may make the zone short, and the zone then asks its shrinkers, of which the balloon is one: it would let out with one hand what
//! it takes in with the other. And a host that calls back would wait for itself. So a thread is inside once, and knows it.

use sync::Mutex;
use sync::thread::{self, ThreadId};

#[derive(Debug, Default)]
pub(crate) struct Inside(Threads);

#[derive(Debug)]
struct Threads(Mutex<Vec<ThreadId>>);

impl Default for Threads {
    fn default() -> Self {
        Self(Mutex::ranked(sync::Rank::Leaf, Vec::new()))
    }
}

/// The calling thread is inside until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered<'i> {
    inside: &'i Inside,
    thread: ThreadId,
}

impl Inside {
    /// `None` when the calling thread is inside already.
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        let thread = thread::current().id();
        let mut threads = self.0.0.lock();
        if threads.contains(&thread) {
            return None;
        }
        threads.push(thread);
        Some(Entered { inside: self, thread })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.inside.0.0.lock().retain(|&thread| thread != self.thread);
    }
}
