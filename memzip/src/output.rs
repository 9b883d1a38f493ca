//! Standard output, and standard error while a server runs.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

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

/// Writes a line to standard error. Where nobody reads it any more, for the terminal was closed, the line is lost and the server goes on.
pub(crate) fn warn(line: &str) {
    let _ = writeln!(std::io::stderr(), "memzip: {line}");
}
