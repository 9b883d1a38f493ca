//! Signal handling of `memzip serve`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nbd::{Handle, SocketFile};
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Time after the first signal in which further signals count as the same request. `timeout` and
/// shells signal a process and then its group, so one request arrives twice.
const COALESCE_WINDOW: Duration = Duration::from_millis(500);

/// The socket files of this process. Clones share one list.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketFiles(Arc<Mutex<Vec<SocketFile>>>);

impl SocketFiles {
    /// Adds files to the list.
    pub(crate) fn extend(&self, files: impl IntoIterator<Item = SocketFile>) {
        self.0.lock().extend(files);
    }

    /// Binds a socket and adds its file in one step: a signal that ends the process meanwhile
    /// waits, so no socket file is left behind.
    ///
    /// # Errors
    /// Returns the error of `bind`.
    pub(crate) fn add<T>(
        &self,
        bind: impl FnOnce() -> Result<T>,
        file: impl FnOnce(&T) -> SocketFile,
    ) -> Result<T> {
        let mut files = self.0.lock();
        let bound = bind()?;
        files.push(file(&bound));
        Ok(bound)
    }

    /// Removes all files of the list that still exist.
    fn remove(&self) {
        self.0.lock().iter().for_each(SocketFile::remove);
    }
}

/// Starts a thread that ends the server in good order on the first signal. A second signal at least
/// half a second later removes the sockets and ends the process at once.
///
/// SIGHUP counts as a first signal, since the terminal of a server in the foreground may be closed.
/// It never counts as the second one: a closing terminal may send it twice.
pub(crate) fn end_on_signal(server: Handle, sockets: SocketFiles) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot listen for signals")?;
    // Programs such as nohup ignore it; keep that.
    if !sys::host::is_signal_ignored(SIGHUP) {
        signals.add_signal(SIGHUP).context("cannot listen for SIGHUP")?;
    }
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut first = None;
            for signal in signals.forever() {
                match first {
                    None => {
                        first = Some(Instant::now());
                        server.shutdown();
                    }
                    Some(first) if ends_at_once(signal, first.elapsed()) => {
                        sockets.remove();
                        // The shell's convention for a process that this signal ended.
                        std::process::exit(128 + signal);
                    }
                    Some(_) => {}
                }
            }
        })
        .context("cannot start the signal thread")?;
    Ok(())
}

/// Returns whether a signal this long after the first one ends the process at once.
fn ends_at_once(signal: i32, since_first: Duration) -> bool {
    signal != SIGHUP && since_first >= COALESCE_WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_signal_ends_at_once() {
        for signal in [SIGTERM, SIGINT] {
            assert!(!ends_at_once(signal, Duration::ZERO));
            assert!(!ends_at_once(signal, COALESCE_WINDOW - Duration::from_nanos(1)));
            assert!(ends_at_once(signal, COALESCE_WINDOW));
        }
        assert!(!ends_at_once(SIGHUP, Duration::from_secs(60)));
    }
}
