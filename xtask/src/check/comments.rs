//! The width of comments, and the first word of a public function's summary.

use super::Finding;
use crate::tree::Source;

/// Most columns of a comment. rustfmt wraps code at this column, but no comments.
const MAX_WIDTH: usize = 100;

/// Words that end like a verb in the third person, but are not verbs.
const NOT_VERBS: [&str; 12] = [
    "This",
    "Its",
    "As",
    "Us",
    "Always",
    "Sometimes",
    "Less",
    "Plus",
    "Thus",
    "Towards",
    "Perhaps",
    "Across",
];

/// Checks that comments have at most 100 columns, except lines with a link, which cannot be broken.
pub(crate) fn width(sources: &[Source]) -> Vec<Finding> {
    let rust = sources.iter().filter(|source| source.has_extension("rs"));
    rust.flat_map(|source| {
        let lines = source.text.lines().enumerate();
        lines.filter(|(_, line)| is_too_wide(line)).map(|(index, line)| {
            let width = line.chars().count();
            Finding::at(
                source,
                index + 1,
                format!("a comment of {width} columns; at most {MAX_WIDTH} are allowed"),
            )
        })
    })
    .collect()
}

fn is_too_wide(line: &str) -> bool {
    let is_comment = line.trim_start().starts_with("//");
    is_comment && line.chars().count() > MAX_WIDTH && !line.contains("://")
}

/// Checks that a public function's summary begins with a verb in the third person: "Returns ...".
pub(crate) fn verbs(sources: &[Source]) -> Vec<Finding> {
    sources.iter().filter(|source| source.has_extension("rs")).flat_map(verbs_in).collect()
}

fn verbs_in(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut summary: Option<(usize, &str)> = None;
    for (index, line) in source.text.lines().enumerate() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            summary.get_or_insert((index + 1, text.trim()));
        } else if !line.starts_with("#[") {
            if let (Some((number, text)), Some(name)) = (summary, public_function(line))
                && !begins_with_verb(text)
            {
                let problem =
                    format!("the summary of `{name}` does not begin with a verb: \"{text}\"");
                findings.push(Finding::at(source, number, problem));
            }
            summary = None;
        }
    }
    findings
}

/// Returns the rest of a line after `pub`, `pub(crate)` or `pub(super)`.
pub(super) fn after_pub(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub")?;
    let rest = rest.strip_prefix('(').map_or(Some(rest), |scope| Some(scope.split_once(')')?.1))?;
    rest.strip_prefix(' ')
}

/// Returns the name of the public function that a line declares.
fn public_function(line: &str) -> Option<&str> {
    let rest = after_pub(line)?;
    let rest = ["const ", "async ", "unsafe "]
        .iter()
        .fold(rest, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    let name = rest.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

fn begins_with_verb(summary: &str) -> bool {
    let word = summary.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    word.ends_with('s') && word.starts_with(char::is_uppercase) && !NOT_VERBS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> [Source; 1] {
        [Source { path: "some/file.rs".into(), text: text.to_owned() }]
    }

    #[test]
    fn a_comment_beyond_100_columns_is_found() {
        let comment = |width: usize| source(&format!("    // {}\n", "x".repeat(width - 7)));
        assert!(width(&comment(100)).is_empty());
        assert_eq!(width(&comment(101))[0].place, "some/file.rs:1");
        assert!(width(&source(&format!("let x = \"{}\";\n", "x".repeat(200)))).is_empty());
    }

    #[test]
    fn a_summary_begins_with_a_verb() {
        let function = |summary: &str| {
            source(&format!("/// {summary}\n///\n/// More.\n#[must_use]\npub fn f() {{}}\n"))
        };
        let inner = source("/// The frame.\npub(crate) const fn f() {}\n");
        assert_eq!(verbs(&inner).len(), 1);
        assert!(verbs(&function("Returns the frame.")).is_empty());
        for summary in ["The frame.", "Whether it is.", "This is it.", "Frame"] {
            assert_eq!(verbs(&function(summary))[0].place, "some/file.rs:1", "{summary}");
        }
        assert!(
            verbs(&source("/// The frame.\nfn private() {}\n/// A type.\npub struct Frame;\n"))
                .is_empty()
        );
    }
}
