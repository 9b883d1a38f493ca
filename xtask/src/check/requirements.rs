//! docs/requirements.md and docs/scenarios.md are complete and true.
//!
//! Each number has a row. Each row names existing tests, or a reason from the closed list. A
//! scenario names the kinds of its tests.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Finding, links, markdown};
use crate::tree::Source;

/// The documents with the tables.
const DOCUMENTS: [&str; 2] = ["docs/requirements.md", "docs/scenarios.md"];
/// The numbers of the specification that this version covers: prefix, number of digits, and ranges.
const COVERED: [(&str, usize, &[RangeInclusive<u32>]); 10] = [
    ("R-", 3, &[1..=11, 20..=35, 50..=72, 100..=112, 150..=163, 200..=221, 250..=260, 280..=298]),
    ("R-", 3, &[330..=341, 400..=417, 450..=455, 500..=511]),
    ("S-", 2, &[1..=53]),
    ("L-", 2, &[1..=19]),
    ("B", 1, &[1..=15]),
    ("Z", 1, &[1..=14]),
    ("C-", 2, &[1..=13]),
    ("E-", 1, &[1..=5]),
    ("LO-", 1, &[1..=4]),
    ("NBD-", 1, &[1..=16]),
];
/// Numbers outside of the ranges.
const OTHERS: [&str; 11] = ["B13a", "B13b", "B13c", "F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8"];
/// The reasons for a row without a test.
const REASONS: [&str; 3] = ["kernel only:", "replaced:", "later:"];
/// The kinds of numbers: prefix, and number of digits.
const KINDS: [(&str, RangeInclusive<usize>); 10] = [
    ("R-", 3..=3),
    ("S-", 2..=2),
    ("L-", 2..=2),
    ("C-", 2..=2),
    ("E-", 1..=1),
    ("LO-", 1..=1),
    ("NBD-", 1..=2),
    ("B", 1..=2),
    ("Z", 1..=2),
    ("F", 1..=1),
];
/// Kinds of tests for a scenario; `-` means no test.
const TEST_KINDS: [&str; 8] = ["unit", "race", "loom", "shuttle", "model", "e2e", "mutant", "-"];
/// Kinds that a row names exactly when one of its tests or patches has a path with this part.
const KIND_OF_PATH: [(&str, &str); 4] =
    [("loom", "loom"), ("shuttle", "shuttle"), ("mutant", ".patch"), ("e2e", "/e2e/")];

/// Checks the rows, and that every number cited in the repository has a row.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut present = BTreeSet::new();
    for name in DOCUMENTS {
        let Some(document) = sources.iter().find(|source| source.path.as_os_str() == name) else {
            findings.push(Finding::about(name, "is missing"));
            continue;
        };
        for (line, cells) in markdown::rows(&document.text) {
            let Some(number) = number(cells[0]) else { continue };
            if !present.insert(number.to_owned()) {
                findings.push(Finding::at(document, line, format!("{number} has two rows")));
            }
            // The third cell names tests or a reason, the fourth the kinds of tests.
            let shown_by = cells.get(2).copied().unwrap_or_default();
            let kinds = cells.get(3).and_then(|kinds| kinds_problem(shown_by, kinds));
            let problems = problem(shown_by).into_iter().chain(kinds);
            findings.extend(
                problems.map(|problem| Finding::at(document, line, format!("{number}: {problem}"))),
            );
        }
    }
    // Numbers of the specification or of a file that have no row.
    let missing = covered().filter(|number| !present.contains(number));
    findings.extend(
        missing.map(|number| Finding::about(DOCUMENTS.join(", "), format!("{number} has no row"))),
    );
    findings.extend(sources.iter().flat_map(|source| unlisted(source, &present)));
    findings
}

/// Returns every number that must have a row.
fn covered() -> impl Iterator<Item = String> {
    let numbers =
        |&(start, digits, ranges): &(&'static str, usize, &'static [RangeInclusive<u32>])| {
            ranges.iter().cloned().flatten().map(move |number| format!("{start}{number:0digits$}"))
        };
    COVERED.iter().flat_map(numbers).chain(OTHERS.map(str::to_owned))
}

/// Returns the problem of the cell that names tests or a reason, if any.
fn problem(cell: &str) -> Option<String> {
    let has_reason = REASONS
        .iter()
        .any(|reason| cell.strip_prefix(reason).is_some_and(|why| why.trim().len() > 10));
    let mut named = named(cell).peekable();
    if named.peek().is_none() && !has_reason {
        return Some(format!("names no test, and no reason of: {}", REASONS.join(" ")));
    }
    named.find_map(|name| {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        let Ok(text) = std::fs::read_to_string(shell::root().join(file)) else {
            return Some(format!("{file} does not exist"));
        };
        let test = test.rsplit("::").next().unwrap_or(test);
        (!test.is_empty() && !links::defines(&text, test))
            .then(|| format!("{file} has no test {test}"))
    })
}

/// Returns the tests and patches that a cell names.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    markdown::code_spans(cell).filter(|span| span.contains(".rs::") || span.ends_with(".patch"))
}

/// Returns the problem of a scenario's kinds of tests, if any.
fn kinds_problem(shown_by: &str, kinds: &str) -> Option<String> {
    let kinds: Vec<&str> = kinds.split(',').map(str::trim).collect();
    if let Some(unknown) = kinds.iter().find(|kind| !TEST_KINDS.contains(kind)) {
        return Some(format!("`{unknown}` is none of: {}", TEST_KINDS.join(" ")));
    }
    if kinds.contains(&"-") != named(shown_by).next().is_none() {
        return Some("`-` is for rows that name no test, and only for them".to_owned());
    }
    KIND_OF_PATH.iter().find_map(|(kind, path)| {
        let names_it = named(shown_by).any(|name| name.contains(path));
        (names_it != kinds.contains(kind)).then(|| {
            format!(
                "has the kinds `{}` and {} a test of {kind}",
                kinds.join(", "),
                if names_it { "names" } else { "does not name" }
            )
        })
    })
}

/// Returns the numbers that a file cites and that have no row.
fn unlisted<'a>(
    source: &'a Source,
    present: &'a BTreeSet<String>,
) -> impl Iterator<Item = Finding> + 'a {
    let is_own = source.path.starts_with("xtask");
    let comments = source.text.lines().enumerate().filter_map(move |(index, line)| {
        let text = if source.has_extension("rs") { line.split_once("//")?.1 } else { line };
        (!is_own && !source.has_extension("toml")).then_some((index, text))
    });
    comments.flat_map(move |(index, text)| {
        let cited = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .filter_map(number);
        let unlisted = cited.filter(|number| !present.contains(*number));
        unlisted.map(move |number| {
            Finding::at(
                source,
                index + 1,
                format!("{number} has no row in {}", DOCUMENTS.join(" or ")),
            )
        })
    })
}

/// Returns the word if it is a number: `R-200`, `S-07`, `B4`, `B13a`.
fn number(word: &str) -> Option<&str> {
    let is_kind = |(start, digits): &(&str, RangeInclusive<usize>)| {
        let rest = word.strip_prefix(start);
        // Only fixes that share a line of the history have letters.
        let rest = if *start == "B" {
            rest.map(|rest| rest.trim_end_matches(['a', 'b', 'c']))
        } else {
            rest
        };
        rest.is_some_and(|rest| {
            digits.contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    KINDS.iter().any(is_kind).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_needs_a_test_or_a_listed_reason() {
        let own = "`xtask/src/check/requirements.rs::a_row_needs_a_test_or_a_listed_reason`";
        assert_eq!(problem(own), None);
        assert_eq!(problem("replaced: by the free map beside the zspage"), None);
        assert!(problem("`xtask/src/check/requirements.rs::no_such_test`").is_some());
        assert!(
            problem("replaced: by something, see `xtask/src/check/requirements.rs::no_such_test`")
                .is_some()
        );
        assert!(problem("`xtask/mutants/no-such.patch`").is_some());
        assert!(problem("we will see").is_some());
        assert!(problem("replaced:").is_some());
    }

    #[test]
    fn the_kinds_of_a_scenario_match_its_tests() {
        assert_eq!(
            kinds_problem("`a/loom_tests.rs::s01`, `xtask/mutants/x.patch`", "loom, mutant"),
            None
        );
        assert!(kinds_problem("`a/loom_tests.rs::s01`", "unit").is_some());
        assert!(kinds_problem("`a/tests.rs::s01`", "unit, mutant").is_some());
        assert!(kinds_problem("`a/tests.rs::s01`", "luck").is_some());
        assert!(kinds_problem("replaced: by a map", "unit").is_some());
        assert_eq!(kinds_problem("replaced: by a map", "-"), None);
    }

    #[test]
    fn numbers_are_recognised_and_words_are_not() {
        for word in ["R-204", "S-07", "Z9", "B13", "B13a", "F8", "E-4", "C-13", "LO-2", "NBD-16"] {
            assert_eq!(number(word), Some(word));
        }
        for word in ["x86-64", "Zram", "B", "Ba", "F16", "R-20", "Z9a"] {
            assert_eq!(number(word), None, "{word}");
        }
    }

    #[test]
    fn the_covered_numbers_are_the_specifications() {
        let all: BTreeSet<String> = covered().collect();
        assert!(
            [
                "R-001", "R-511", "S-01", "S-53", "L-19", "B1", "B13c", "Z14", "F8", "E-5", "C-01",
                "LO-4"
            ]
            .iter()
            .all(|n| all.contains(*n))
        );
        assert!(all.iter().all(|n| number(n) == Some(n.as_str())));
        assert!(!all.contains("R-012") && !all.contains("R-036"));
    }
}
