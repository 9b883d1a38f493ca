//! The memzip binary: serves, shows and demonstrates a compressed disk.

#![forbid(unsafe_code)]

mod stderr_log;
mod output;
mod columns;
mod sizes;
mod durations;
mod signals;
mod runtime_dir;
mod corpus;
mod control;
mod warnings;
mod maintenance_args;
mod cli;
mod serve;
mod stat;
mod compact;
mod demo;
mod doctor;
mod lab;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            output::warn(&one_line(&error));
            output::flush_log();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let text = match command {
        Command::Serve(args) => return serve::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Stat(args) => stat::run(&args)?,
        Command::Compact(args) => compact::run(&args)?,
        Command::Demo(args) => demo::run(&args)?.to_string(),
        Command::Lab(args) => lab::run(&args)?,
        Command::Doctor => {
            let examination = doctor::Examination::run();
            output::print(&examination.to_string())?;
            return Ok(if examination.is_fit() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the error and its causes in one line, without causes that the line already ends with.
fn one_line(error: &anyhow::Error) -> String {
    let texts = error.chain().map(|cause| cause.to_string().replace('\n', " "));
    let join = |line: String, text: String| {
        if line.ends_with(&text) { line } else { format!("{line}: {text}") }
    };
    texts.reduce(join).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_in_the_text_is_not_repeated() {
        let error = anyhow::anyhow!("permission denied")
            .context("cannot bind: permission denied")
            .context("cannot serve");
        assert_eq!(one_line(&error), "cannot serve: cannot bind: permission denied");
    }
}
