//! A SAFETY comment is a proof: it cites an invariant by name or gives an argument. Clippy checks
//! that it exists.

use std::collections::BTreeSet;

use super::Finding;
use crate::tree::Source;

/// Least number of words of an argument without the name of an invariant.
const MIN_WORDS: usize = 6;
/// Phrases that are no proof.
const EMPTY_PHRASES: [&str; 6] = [
    "trivially safe",
    "this is safe",
    "obviously safe",
    "we know",
    "should be fine",
    "does not change rust memory safety",
];
/// Start of the name of an invariant.
const NAME: &str = "INV-";
/// Start of a SAFETY comment, in two pieces so that clippy does not take this line for one.
const SAFETY_MARK: &str = concat!("// SAFE", "TY:");

/// Checks every SAFETY comment, and that a doc comment states each invariant that it cites.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let rust: Vec<&Source> = sources.iter().filter(|source| source.has_extension("rs")).collect();
    let stated: BTreeSet<&str> = rust.iter().flat_map(|source| stated(&source.text)).collect();
    rust.iter().flat_map(|source| check_one(source, &stated)).collect()
}

fn check_one(source: &Source, stated: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, proof) in proofs(&source.text) {
        if let Some(problem) = problem(&proof) {
            findings.push(Finding::at(source, line, problem));
        }
        for name in names(&proof).filter(|name| !stated.contains(name)) {
            findings.push(Finding::at(
                source,
                line,
                format!("{name} is cited, but no doc comment states it"),
            ));
        }
    }
    findings
}

fn problem(proof: &str) -> Option<String> {
    let lower = proof.to_lowercase();
    if let Some(phrase) = EMPTY_PHRASES.iter().find(|phrase| lower.contains(*phrase)) {
        return Some(format!("\"{phrase}\" is not a proof"));
    }
    let cites = proof.contains(NAME);
    let words = proof.split_whitespace().count();
    (!cites && words < MIN_WORDS)
        .then(|| format!("SAFETY with {words} words and no invariant; it must say why it holds"))
}

/// Returns the SAFETY comments of a file, each with the number of its first line.
fn proofs(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let Some((before, first)) = line.split_once(SAFETY_MARK) else { continue };
        if before.contains('"') {
            continue;
        }
        let mut proof = first.to_owned();
        while let Some(more) =
            lines.peek().and_then(|(_, line)| line.trim_start().strip_prefix("// "))
        {
            proof.push(' ');
            proof.push_str(more);
            lines.next();
        }
        found.push((index + 1, proof));
    }
    found
}

/// Returns the invariants that doc comments state, as in `/// - INV-MAP-1: every byte ...`.
fn stated(text: &str) -> impl Iterator<Item = &str> {
    let docs = text
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("///") || line.starts_with("//!"));
    docs.flat_map(names)
}

/// Returns the names of the invariants in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(NAME).map(|(start, _)| {
        let rest = &text[start..];
        let end = rest
            .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'))
            .unwrap_or(rest.len());
        rest[..end].trim_end_matches('-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let source = Source { path: "some/file.rs".into(), text: text.replace("SAFE:", "SAFETY:") };
        check(&[source]).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn an_empty_or_ritual_comment_fails() {
        assert_eq!(findings("    // SAFE:\n    unsafe {}").len(), 1);
        assert_eq!(findings("// SAFE: trivially safe, as every reader can see").len(), 1);
    }

    #[test]
    fn an_argument_may_span_several_lines() {
        assert!(
            findings("// SAFE: the range was\n// reserved above and no other thread knows it")
                .is_empty()
        );
    }

    #[test]
    fn a_cited_invariant_must_be_stated() {
        assert!(findings("/// - INV-MAP-1: mapped\n// SAFE: INV-MAP-1.").is_empty());
        assert_eq!(findings("// SAFE: INV-MAP-2 holds.").len(), 1);
    }
}
