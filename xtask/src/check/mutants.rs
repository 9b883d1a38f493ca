//! Every patch in `xtask/mutants` applies to the code and names tests that exist.
//!
//! `cargo xtask mutants` checks that the tests catch the mutants.

use anyhow::Result;

use super::Finding;
use crate::mutants::{self, Test};
use crate::tree::{self, Source};

/// Checks with git that the patches apply, and searches the sources for the tests.
pub(crate) fn check() -> Result<Vec<Finding>> {
    let sources = tree::sources()?;
    let file = |name: &str| format!("xtask/mutants/{name}.patch");
    let stale = mutants::stale()?.into_iter();
    let mut findings: Vec<Finding> =
        stale.map(|(name, problem)| Finding::about(file(&name), problem)).collect();
    for (name, test) in mutants::tests()? {
        if !sources.iter().any(|source| has(source, &test)) {
            findings.push(Finding::about(file(&name), format!("{test} does not exist")));
        }
    }
    Ok(findings)
}

/// Returns whether a file of the test's target has a function of its name. A unit test's name says
/// in which file: a module, with or without an inner module `tests`.
fn has(source: &Source, test: &Test) -> bool {
    let path = source.path.to_string_lossy();
    let (modules, function) = test.name.rsplit_once("::").unwrap_or(("", &test.name));
    let is_of_target = match &test.target {
        Some(target) => path.contains(&format!("/tests/{target}")),
        None => path.split_once("/src/").is_some_and(|(_, file)| {
            let file = file.trim_end_matches(".rs").replace('/', "::");
            let file = if file == "lib" { "" } else { &file };
            file == modules || Some(file) == modules.strip_suffix("::tests")
        }),
    };
    is_of_target && source.has_extension("rs") && source.text.contains(&format!("fn {function}("))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::Kind;

    #[test]
    fn a_test_is_found_only_in_its_target() {
        let source = |path: &str| Source { path: path.into(), text: "fn s21() {}".to_owned() };
        let test = |target: Option<&str>, name: &str| {
            let (package, target, name) =
                ("p".to_owned(), target.map(str::to_owned), name.to_owned());
            Test { kind: Kind::Plain, package, target, name }
        };
        assert!(has(&source("mm/p/src/a.rs"), &test(None, "a::tests::s21")));
        assert!(has(&source("mm/p/tests/races.rs"), &test(Some("races"), "s21")));
        assert!(!has(&source("mm/p/tests/races.rs"), &test(None, "s21")));
        assert!(!has(&source("mm/p/src/a.rs"), &test(None, "a::tests::s2")));
        assert!(has(&source("mm/p/src/a/tests.rs"), &test(None, "a::tests::s21")));
        assert!(!has(&source("mm/p/src/zone/a.rs"), &test(None, "a::tests::s21")));
    }
}
