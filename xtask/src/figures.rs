//! `cargo xtask figures`: measures the figures that the documents quote and writes them there. No
//! figure is copied by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::blocks::{commands, replaced};
use crate::packages;

/// The documents with figures.
const DOCUMENTS: [&str; 2] = ["docs/benchmarks.md", "README.md"];
/// Mark in the benchmark's Markdown: the text above it is for the README.
const SHORT: &str = "<!-- all rows -->";

/// Options of `cargo xtask figures`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only blocks whose commands contain one of these
    filter: Vec<String>,
    /// Only list the commands
    #[arg(long)]
    list: bool,
}

/// Runs the command of each block once and rewrites the blocks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = |command: &&String| {
        args.filter.is_empty() || args.filter.iter().any(|part| command.contains(part))
    };
    let mut all = Vec::new();
    for document in DOCUMENTS {
        all.extend(commands(&read(document)?).with_context(|| document.to_owned())?);
    }
    // A command of several blocks runs once.
    all.sort();
    all.dedup();
    let chosen: Vec<&String> = all.iter().filter(wanted).collect();
    ensure!(
        !chosen.is_empty(),
        "no block has such a command; the commands are: {}",
        all.join(", ")
    );
    for command in chosen {
        if args.list {
            println!("{command}");
            continue;
        }
        let output = output_of(command)?;
        // Write after each command, so that an interrupted run keeps its results.
        for document in DOCUMENTS {
            let text = read(document)?;
            let content = content(command, &output, Path::new(document));
            std::fs::write(path(document), replaced(&text, command, &content)?)
                .with_context(|| format!("cannot write {document}"))?;
        }
    }
    Ok(())
}

fn path(document: &str) -> PathBuf {
    shell::root().join(document)
}

fn read(document: &str) -> Result<String> {
    std::fs::read_to_string(path(document)).with_context(|| format!("cannot read {document}"))
}

/// Returns the content of a block.
fn content(command: &str, output: &str, document: &Path) -> String {
    if !command.contains("--markdown") {
        return format!("{}:\n\n```text\n{}\n```", stamp(), output.trim_end());
    }
    let is_readme = document.file_name().is_some_and(|name| name == "README.md");
    let short = output.split_once(SHORT).filter(|_| is_readme).map(|(short, _)| short);
    short.unwrap_or(output).trim_end().to_owned()
}

/// Returns the commit and the time.
fn stamp() -> String {
    let said = |command: &mut Command| {
        let output = command.output().ok().filter(|output| output.status.success());
        output.map_or_else(
            || "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let commit = said(
        Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(shell::root()),
    );
    format!("Commit {commit}, {}", said(Command::new("date").args(["-u", "+%F %H:%M UTC"])))
}

/// Runs a block's command and returns its standard output.
fn output_of(command: &str) -> Result<String> {
    let mut words = command.split_whitespace();
    let mut program = match (words.next(), command.strip_prefix("cargo xtask ")) {
        // A block runs memzip, or a subcommand of this program.
        (Some("memzip"), _) => {
            let mut program = shell::cargo("run");
            program
                .args(["--release", "-p", packages::BINARY, "--bin", "memzip", "--"])
                .args(words);
            program
        }
        (_, Some(rest)) => {
            let mut program =
                Command::new(std::env::current_exe().context("this program has no path")?);
            program.args(rest.split_whitespace()).current_dir(shell::root());
            program
        }
        _ => bail!("a block runs `memzip ..` or `cargo xtask ..`, not `{command}`"),
    };
    eprintln!("$ {command}");
    let output = program
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{command}`"))?;
    ensure!(
        output.status.success(),
        "`{command}` ended with {}; the documents are unchanged",
        output.status
    );
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{command}` printed bytes that are not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_gets_the_short_table() {
        let output = "short\n<!-- all rows -->\nlong\n";
        assert_eq!(
            content("cargo xtask bench --markdown", output, Path::new("README.md")),
            "short"
        );
        assert_eq!(
            content("cargo xtask bench --markdown", output, Path::new("docs/benchmarks.md")),
            output.trim_end()
        );
        assert!(
            content("memzip lab e1", "x\n", Path::new("docs/benchmarks.md"))
                .ends_with("```text\nx\n```")
        );
    }

    /// Checks the project's own documents.
    #[test]
    fn the_documents_blocks_are_well_formed() {
        for document in DOCUMENTS {
            let found =
                commands(&read(document).expect("the document can be read")).expect("well formed");
            assert!(!found.is_empty(), "{document} quotes no command");
            let known = |command: &String| {
                command.starts_with("memzip ") || command.starts_with("cargo xtask ")
            };
            assert!(found.iter().all(known), "{document}: {found:?}");
        }
    }
}
