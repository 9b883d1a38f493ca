//! Standard output, and standard error while a server runs.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::stderr_log::StderrLog;

/// The log of the server; unset in the other subcommands.
static LOG: OnceLock<StderrLog> = OnceLock::new();

/// Output format of a command: text for people, or JSON for programs.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Format {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Format {
    /// Formats a value as JSON, or by `text`.
    pub(crate) fn render<T: Serialize>(self, value: &T, text: fn(&T) -> String) -> Result<String> {
        if self.json {
            return Ok(serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n");
        }
        Ok(text(value))
    }
}

/// Returns the paths in one line.
pub(crate) fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
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
