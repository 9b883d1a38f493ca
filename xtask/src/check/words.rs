//! Words that have no place in published text: reminders, praise, and paths of single machines.

use super::Finding;
use crate::tree::Source;

/// Whole words in any case, and their remedies.
const WORDS: [(&str, &str); 10] = [
    ("todo", "do it or drop it"),
    ("fixme", "fix it"),
    ("xxx", "say what is meant"),
    ("lorem", "write the text"),
    ("tbd", "decide it"),
    ("wip", "finish it"),
    ("blazing", "give a number"),
    ("seamless", "say what happens"),
    ("revolutionary", "say what is new"),
    ("chatgpt", "say it yourself"),
];

/// Prefixes of paths that exist on one machine only.
const PATHS: [&str; 2] = ["/home/", "/Users/"];

/// Checks every file except this one, which contains the words.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    sources
        .iter()
        .filter(|source| !source.path.ends_with("check/words.rs"))
        .flat_map(check_one)
        .collect()
}

fn check_one(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        // `todo = "deny"` is the lint that forbids the macro.
        let lint = source.has_extension("toml") && line.trim_end().ends_with("\"deny\"");
        let lower = line.to_lowercase();
        let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
        for (word, remedy) in WORDS.iter().filter(|(word, _)| !lint && words.contains(word)) {
            findings.push(Finding::at(source, index + 1, format!("\"{word}\": {remedy}")));
        }
        for path in PATHS.iter().filter(|path| line.contains(*path)) {
            findings.push(Finding::at(
                source,
                index + 1,
                format!("{path} is a path of a single machine"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&[Source { path: path.into(), text: text.to_owned() }]).len()
    }

    #[test]
    fn only_whole_words_are_found() {
        assert_eq!(count("a.rs", "// TODO: later"), 1);
        assert_eq!(count("a.rs", "let mastodont = 1;"), 0);
    }

    #[test]
    fn the_lint_table_may_name_what_it_denies() {
        assert_eq!(count("Cargo.toml", "todo = \"deny\""), 0);
    }
}
