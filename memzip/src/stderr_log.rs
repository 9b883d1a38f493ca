//! Lines on standard error while a server runs.
//!
//! One thread writes them. Writing to a pipe that is full because its reader stopped may block
//! without end; only that thread may block. Lines that find the queue full are dropped and counted.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};

/// Maximum number of queued lines.
const QUEUE_LEN: usize = 256;
/// Time the end of the process waits for queued lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// A log that never blocks its callers.
#[derive(Debug)]
pub(crate) struct StderrLog {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(String),
    /// Answered when all earlier lines are written.
    Flush(SyncSender<()>),
}

impl StderrLog {
    /// Starts the thread that writes to standard error.
    pub(crate) fn start() -> Result<Self> {
        // A duplicate: the lock of `std::io::stderr` would be held during a write.
        let stderr = std::io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .context("cannot duplicate standard error")?;
        Self::start_on(File::from(stderr))
    }

    fn start_on(file: impl Write + Send + 'static) -> Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_LEN);
        let dropped = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("stderr".into())
            .spawn(move || write_all(&messages, &counter, file))
            .context("cannot start the thread for standard error")?;
        Ok(Self { queue, dropped })
    }

    /// Queues a line, or drops it when the queue is full. Never blocks.
    pub(crate) fn push(&self, line: &str) {
        if self.queue.try_send(Message::Line(line.to_owned())).is_err() {
            // Relaxed: a counter that orders nothing.
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits at most half a second until the queued lines are written.
    pub(crate) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            // On a timeout no reader takes the lines; give up.
            let _ = is_done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn write_all(messages: &Receiver<Message>, dropped: &AtomicU64, mut file: impl Write) {
    for message in messages {
        match message {
            Message::Line(line) => {
                // Relaxed: as in `push`.
                let note = match dropped.swap(0, Relaxed) {
                    0 => String::new(),
                    count => {
                        format!("memzip: {count} lines were dropped: standard error was not read\n")
                    }
                };
                // An error means that standard error is closed: the line is lost.
                let _ = file.write_all(format!("{note}memzip: {line}\n").as_bytes());
            }
            Message::Flush(done) => _ = done.try_send(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Sends what is written to a channel; each write blocks until the test receives it.
    struct Slow(SyncSender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .send(String::from_utf8_lossy(bytes).into_owned())
                .map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_no_time() {
        let (written, lines) = mpsc::sync_channel(0);
        let log = StderrLog::start_on(Slow(written)).expect("a thread");
        // The thread holds one line; the others fill the queue.
        (0..QUEUE_LEN + 101).for_each(|number| log.push(&number.to_string()));
        log.flush();
        let (mut shown, mut dropped) = (0, 0);
        for line in lines.iter().take(QUEUE_LEN) {
            shown += 1;
            let note = line
                .strip_prefix("memzip: ")
                .and_then(|rest| rest.split_once(" lines were dropped"));
            dropped += note.map_or(0, |(count, _)| count.parse::<usize>().expect("a number"));
        }
        assert_eq!(shown, QUEUE_LEN);
        assert!((100..=101).contains(&dropped), "{dropped}");
    }
}
