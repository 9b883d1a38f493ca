//! Retired words: private words of earlier versions for which the field has a word.
//!
//! One word has one meaning, the field's; see docs/glossary.md. The changelog and what commands
//! printed in documents may use retired words.

use super::Finding;
use crate::blocks;
use crate::tree::Source;

/// Words of identifiers in lower case, with their replacements. `Roster` and `take_roster` contain
/// the word `roster`.
const TERMS: &[(&str, &str)] = &[
    // frames
    ("lend", "balloon, ballooned"),
    ("lent", "ballooned"),
    ("lender", "the owner of a balloon"),
    ("shelf", "FreeListKind"),
    ("facts", "PageblockState"),
    ("vacated", "MigratedSource"),
    ("settle", "release_excess_if_due"),
    ("loan", "InflateBatch"),
    ("obstacle", "ContigError"),
    ("barren", "nothing_isolated"),
    ("heed", "say what is skipped"),
    ("disown", "clear_movable"),
    ("adopt", "set_movable"),
    // zsmalloc
    ("reap", "free_deferred"),
    ("bury", "invalidate"),
    ("crew", "several threads"),
    ("relist", "fix_fullness_group"),
    ("regroup", "fix_fullness_group"),
    // store
    ("desk", "stream slot"),
    ("vain", "FailedReclaims"),
    // nbd, memzip
    ("converse", "serve_connection"),
    ("inbox", "ReadBuffer"),
    ("outbox", "WriteBuffer"),
    ("arrival", "Accepted"),
    ("tally", "LocalCounters, Counters"),
    ("movers", "Maintenance"),
    ("patience", "a timeout"),
    ("haggle", "handshake"),
    ("haggler", "handshake"),
    ("hangup", "ConnectionError"),
    ("roster", "ConnectionTable"),
    ("seated", "active"),
];

/// Words of prose for actors without a name, with their replacements.
const PROSE: &[(&str, &str)] = &[
    ("who", "the caller, another thread, the client"),
    ("whom", "the caller, another thread, the client"),
    ("he", "the caller, another thread, the client"),
    ("him", "the caller, another thread, the client"),
    ("his", "the caller's, the thread's"),
    ("whoever", "the caller, another thread, the client"),
    ("whomever", "the caller, another thread, the client"),
    ("somebody", "another thread, a client"),
    ("someone", "another thread, a client"),
    ("nobody", "no thread, no client"),
    ("anybody", "any thread, any client"),
    ("everybody", "all threads, all clients"),
];

/// Files that have to contain retired words.
const EXEMPT: [&str; 3] = ["CHANGELOG.md", "docs/glossary.md", "xtask/src/check/retired.rs"];

/// Finds retired words in code, comments and documents.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let checked =
        sources.iter().filter(|source| !EXEMPT.iter().any(|exempt| source.path.ends_with(exempt)));
    checked.flat_map(check_one).collect()
}

fn check_one(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_output = false;
    for (index, line) in source.text.lines().enumerate() {
        is_output = (is_output || line.starts_with(blocks::BEGIN)) && line != blocks::END;
        if is_output {
            continue;
        }
        let is_prose = source.has_extension("md") || line.trim_start().starts_with("//");
        let lists = [TERMS, if is_prose { PROSE } else { &[] }];
        for word in words(line) {
            let found =
                lists.iter().flat_map(|list| list.iter()).find(|(retired, _)| *retired == word);
            if let Some((retired, remedy)) = found {
                findings.push(Finding::at(
                    source,
                    index + 1,
                    format!("\"{retired}\" is retired: {remedy}"),
                ));
            }
        }
    }
    findings
}

/// Returns the words of a line in lower case. `free_objects`, `FreeObjects` and `FREE_OBJECTS` are
/// two words each.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut last_was_lower = false;
    for c in line.chars() {
        let begins_word = c.is_uppercase() && last_was_lower;
        if (begins_word || !c.is_alphanumeric())
            && words.last().is_some_and(|word| !word.is_empty())
        {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
        last_was_lower = c.is_lowercase() || c.is_numeric();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&[Source { path: path.into(), text: text.to_owned() }]).len()
    }

    #[test]
    fn a_retired_term_is_found_in_each_spelling() {
        for line in [
            "struct Roster;",
            "let roster = 1;",
            "fn take_roster() {}",
            "const ROSTER_LEN: u8 = 1;",
            "RosterEntry",
        ] {
            assert_eq!(count("a.rs", line), 1, "{line}");
        }
        assert_eq!(count("a.rs", "let leaped = harvested;"), 0);
        assert_eq!(count("CHANGELOG.md", "`Roster` is `ConnectionTable`"), 0);
    }

    #[test]
    fn retired_prose_is_found_in_comments_and_documents() {
        assert_eq!(count("a.rs", "// Whoever frees it"), 1);
        assert_eq!(count("docs/a.md", "Nobody holds it."), 1);
        let output = "<!-- begin: memzip demo -->\nnobody\n<!-- end -->\n";
        assert_eq!(count("docs/a.md", output), 0);
        assert_eq!(count("docs/a.md", &format!("{output}nobody")), 1);
        assert_eq!(count("a.rs", "let s = \"nobody\";"), 0);
    }
}
