//! docs/requirements.md is complete and true: each number has a row, each row a test that exists or a reason from the closed list.

use super::{Finding, links, markdown};
use crate::shell;
use crate::tree::Source;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The document with the table.
const DOCUMENT: &str = "docs/requirements.md";
/// The R-numbers that exist in the part of the specification this version covers.
const COVERED: [RangeInclusive<u32>; 4] = [200..=221, 250..=260, 280..=298, 500..=511];
/// The only ways to have no test.
const REASONS: [&str; 3] = ["kernel only:", "replaced:", "later:"];
/// Kinds of numbers: how they begin, and how many digits follow.
const KINDS: [(&str, RangeInclusive<usize>); 6] =
    [("R-", 3..=3), ("S-", 2..=2), ("L-", 2..=2), ("C-", 2..=2), ("B", 1..=2), ("Z", 1..=2)];

/// Checks the rows, and that every number cited anywhere has one.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(document) = sources.iter().find(|source| source.path.as_os_str() == DOCUMENT) else {
        return vec![Finding::about(DOCUMENT, "is missing")];
    };
    let mut findings = Vec::new();
    let mut present = BTreeSet::new();
    for (line, cells) in markdown::rows(&document.text) {
        let Some(number) = number(cells[0]) else { continue };
        if !present.insert(number.to_owned()) {
            findings.push(Finding::at(document, line, format!("{number} has two rows")));
        }
        let shown_by = cells.get(2).copied().unwrap_or_default();
        findings.extend(problem(shown_by).map(|problem| Finding::at(document, line, format!("{number}: {problem}"))));
    }
    let covered = COVERED.into_iter().flatten().map(|number| format!("R-{number}"));
    let missing = covered.filter(|number| !present.contains(number));
    findings.extend(missing.map(|number| Finding::about(DOCUMENT, format!("{number} has no row"))));
    findings.extend(sources.iter().flat_map(|source| unlisted(source, &present)));
    findings
}

/// What is wrong with the last cell of a row, if anything.
fn problem(cell: &str) -> Option<String> {
    if REASONS.iter().any(|reason| cell.strip_prefix(reason).is_some_and(|why| why.trim().len() > 10)) {
        return None;
    }
    let tests: Vec<&str> = markdown::code_spans(cell).filter(|span| span.contains(".rs::")).collect();
    if tests.is_empty() {
        return Some(format!("names no test, and no reason of: {}", REASONS.join(" ")));
    }
    tests.into_iter().find_map(|test| {
        let (file, name) = test.split_once("::")?;
        let text = std::fs::read_to_string(shell::root().join(file)).ok();
        let name = name.rsplit("::").next().unwrap_or(name);
        match text {
            None => Some(format!("{file} does not exist")),
            Some(text) if !links::defines(&text, name) => Some(format!("{file} has no test {name}")),
            Some(_) => None,
        }
    })
}

/// Numbers that a file cites and the table lacks.
fn unlisted<'a>(source: &'a Source, present: &'a BTreeSet<String>) -> impl Iterator<Item = Finding> + 'a {
    let is_own = source.path.starts_with("xtask");
    let comments = source.text.lines().enumerate().filter_map(move |(index, line)| {
        let text = if source.has_extension("rs") { line.split_once("//")?.1 } else { line };
        (!is_own && !source.has_extension("toml")).then_some((index, text))
    });
    comments.flat_map(move |(index, text)| {
        let cited = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).filter_map(number);
        let unlisted = cited.filter(|number| !present.contains(*number));
        unlisted.map(move |number| Finding::at(source, index + 1, format!("{number} has no row in {DOCUMENT}")))
    })
}

/// Recognises `R-200`, `S-07`, `B4`.
fn number(word: &str) -> Option<&str> {
    let is_kind = |(start, digits): &(&str, RangeInclusive<usize>)| {
        let rest = word.strip_prefix(start);
        rest.is_some_and(|rest| digits.contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    KINDS.iter().any(is_kind).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_needs_an_existing_test_or_a_reason_from_the_list() {
        let own = "`xtask/src/check/requirements.rs::a_row_needs_an_existing_test_or_a_reason_from_the_list`";
        assert_eq!(problem(own), None);
        assert_eq!(problem("replaced: by the free map beside the zspage"), None);
        assert!(problem("`xtask/src/check/requirements.rs::no_such_test`").is_some());
        assert!(problem("we will see").is_some());
        assert!(problem("replaced:").is_some());
    }

    #[test]
    fn numbers_are_recognised_and_ordinary_words_are_not() {
        assert_eq!(number("R-204"), Some("R-204"));
        assert_eq!(number("S-07"), Some("S-07"));
        assert_eq!(number("x86-64"), None);
        assert_eq!(number("Z9"), Some("Z9"));
        assert_eq!(number("Zram"), None);
    }
}
