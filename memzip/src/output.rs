//! Standard output, and standard error while a server runs.

use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::stderr_log::StderrLog;

/// The log of the server; unset in the other subcommands.
static LOG: OnceLock<StderrLog> = OnceLock::new();

/// Output format of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Writes to standard output and flushes. A closed pipe (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Starts the log, after which [`warn`] never blocks.
pub(crate) fn start_log() -> Result<()> {
    // A log that is already set stays.
    let _ = LOG.set(StderrLog::start()?);
    Ok(())
}

/// Writes a line to standard error.
///
/// If standard error is closed, as after its terminal is gone, the line is lost without an error.
pub(crate) fn warn(line: &str) {
    match LOG.get() {
        Some(log) => log.push(line),
        None => _ = writeln!(std::io::stderr(), "memzip: {line}"),
    }
}

/// Waits a short time for lines of [`warn`] that are not written yet.
pub(crate) fn flush_log() {
    if let Some(log) = LOG.get() {
        log.flush();
    }
}
