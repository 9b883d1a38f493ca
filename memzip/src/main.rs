//! The memzip binary: serves, shows and demonstrates a compressed disk.

#![forbid(unsafe_code)]

mod stderr_log;
mod output;
mod columns;
mod sizes;
mod durations;
mod signals;
mod groups;
mod runtime_dir;
mod corpus;
mod control;
mod nearly_full;
mod memory_failure;
mod maintenance_args;
mod cli;
mod serve;
mod stat;
mod compact;
mod demo;
mod doctor;
mod lab;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command, ControlArgs};
use runtime_dir::RuntimeDir;

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
    match command {
        Command::Serve(args) => serve::run(*args)?,
        Command::Stat(control_args) => {
            output::print(&stat::run(&socket(&control_args)?, control_args.format())?)?
        }
        Command::Compact(args) => {
            output::print(&compact::run(&socket(&args.control_args)?, &args)?)?
        }
        Command::Demo(args) => output::print(&demo::run(&args)?.to_string())?,
        Command::Lab(args) => output::print(&lab::run(&args)?)?,
        Command::Doctor => {
            let examination = doctor::Examination::run();
            output::print(&examination.to_string())?;
            return Ok(if examination.is_fit() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn socket(control_args: &ControlArgs) -> Result<PathBuf> {
    match &control_args.control {
        Some(path) => Ok(path.clone()),
        None => RuntimeDir::open()?.only_server(),
    }
}

/// Returns the error and its causes in one line, without causes that the line already ends with.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut line, cause| {
        let text = cause.to_string().replace('\n', " ");
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        line
    })
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
