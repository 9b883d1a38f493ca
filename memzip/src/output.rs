//! Standard output, and standard error while a server runs.

use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::stderr_log::StderrLog;

/// Set while a server runs.
static LOG: OnceLock<StderrLog> = OnceLock::new();

/// How a command's result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Writes to standard output and flushes. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// From here on [`warn`] never waits for a reader of standard error.
pub(crate) fn start_log() -> Result<()> {
    // The first one stays.
    let _ = LOG.set(StderrLog::start()?);
    Ok(())
}

/// Writes a line to standard error. Where nobody reads it any more, for the terminal was closed, the line is lost and the server goes on.
pub(crate) fn warn(line: &str) {
    match LOG.get() {
        Some(log) => log.push(line),
        None => _ = writeln!(std::io::stderr(), "memzip: {line}"),
    }
}

/// Waits a moment for the lines of [`warn`] that are not written yet.
pub(crate) fn flush_log() {
    if let Some(log) = LOG.get() {
        log.flush();
    }
}
