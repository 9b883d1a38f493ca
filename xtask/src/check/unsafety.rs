//! Only the files listed in docs/unsafe.md have unsafe code.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use super::{Finding, markdown};
use crate::packages::Metadata;
use crate::tree::Source;

/// The list of files with unsafe code.
const DOCUMENT: &str = "docs/unsafe.md";
/// Attribute of a crate without unsafe code.
const FORBID: &str = "#![forbid(unsafe_code)]";
/// Lint of the workspace: the other crates enable unsafe code file by file.
const DENY: &str = "unsafe_code = \"deny\"";

/// Checks the document against the files, and the root of every crate.
pub(crate) fn check(sources: &[Source]) -> Result<Vec<Finding>> {
    let listed: BTreeSet<PathBuf> = sources
        .iter()
        .filter(|source| source.path.as_os_str() == DOCUMENT)
        .flat_map(listed)
        .collect();
    let unsafe_files: BTreeSet<PathBuf> = sources
        .iter()
        .filter(|source| has_unsafe(source))
        .map(|source| source.path.clone())
        .collect();
    let mut findings = Vec::new();
    // Both directions: files without a row, and rows without unsafe code.
    let missing = unsafe_files.difference(&listed);
    findings.extend(missing.map(|path| {
        Finding::about(
            path.display().to_string(),
            format!("has unsafe code and no row in {DOCUMENT}"),
        )
    }));
    let outdated = listed.difference(&unsafe_files);
    findings
        .extend(outdated.map(|path| {
            Finding::about(DOCUMENT, format!("{} has no unsafe code", path.display()))
        }));
    findings.extend(roots(sources, &unsafe_files)?);
    Ok(findings)
}

/// Returns the files in the first column of the document's table.
fn listed(document: &Source) -> BTreeSet<PathBuf> {
    let rows = markdown::rows(&document.text);
    let links = rows.iter().flat_map(|(_, cells)| markdown::links(cells[0]));
    links.map(|link| PathBuf::from(link.text)).collect()
}

fn has_unsafe(source: &Source) -> bool {
    let is_code = |line: &&str| !line.trim_start().starts_with("//") && !line.contains('"');
    let words = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"];
    source.has_extension("rs")
        && source
            .text
            .lines()
            .filter(is_code)
            .any(|line| words.iter().any(|word| line.contains(word)))
}

/// Checks that crates without unsafe files forbid unsafe code, and that the workspace denies it.
fn roots(sources: &[Source], unsafe_files: &BTreeSet<PathBuf>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let lints = sources.iter().find(|source| source.path.as_os_str() == "Cargo.toml");
    if !lints.is_some_and(|manifest| manifest.text.contains(DENY)) {
        findings.push(Finding::about(
            "Cargo.toml",
            format!("[workspace.lints.rust] must contain {DENY}"),
        ));
    }
    for package in Metadata::of_workspace(shell::root())?.packages {
        let folder = package.folder();
        if unsafe_files.iter().any(|file| file.starts_with(&folder)) {
            continue;
        }
        // Each library and each program has its own root file.
        let programs = package
            .targets
            .iter()
            .filter(|target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin"));
        let open = programs.filter(|target| {
            !std::fs::read_to_string(&target.src_path).unwrap_or_default().contains(FORBID)
        });
        findings.extend(open.map(|target| {
            Finding::about(target.src_path.display().to_string(), format!("must contain {FORBID}"))
        }));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "some/file.rs".into(), text: text.to_owned() }
    }

    #[test]
    fn comments_and_strings_are_no_unsafe_code() {
        assert!(has_unsafe(&source("let x = unsafe { *p };")));
        assert!(!has_unsafe(&source("// no unsafe { here")));
        assert!(!has_unsafe(&source("let s = \"unsafe {\";")));
    }
}
