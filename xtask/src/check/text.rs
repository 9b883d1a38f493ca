//! Rules for the text of a source file: length, characters, and disabled lints.

use super::Finding;
use super::comments::after_pub;
use crate::tree::Source;

/// Length from which a file is noted.
const NOTED_LINES: usize = 400;
/// Greatest length of a file.
const MAX_LINES: usize = 700;

/// Checks that no Rust file is longer than 700 lines; notes those longer than 400.
pub(crate) fn length(sources: &[Source]) -> Vec<Finding> {
    let rust = sources.iter().filter(|source| source.has_extension("rs"));
    let lengths = rust.map(|source| (source, source.text.lines().count()));
    let mut findings = Vec::new();
    for (source, lines) in lengths {
        if lines > MAX_LINES {
            findings.push(Finding::about(
                source.path.display().to_string(),
                format!("{lines} lines; at most {MAX_LINES} are allowed"),
            ));
        } else if lines > NOTED_LINES {
            println!("note: {} has {lines} lines; does it hold two things?", source.path.display());
        }
    }
    findings
}

/// Checks that `.rs` and `.toml` files are ASCII, so that a reader sees what the compiler sees.
pub(crate) fn ascii(sources: &[Source]) -> Vec<Finding> {
    let checked = sources.iter().filter(|source| !source.has_extension("md"));
    lines(checked)
        .filter_map(|(source, number, line)| {
            let found = line.chars().find(|c| !c.is_ascii())?;
            Some(Finding::at(source, number, format!("{found:?} is not ASCII")))
        })
        .collect()
}

/// Checks that lints are disabled with `#[expect(.., reason = "..")]`, which warns when it is
/// obsolete.
pub(crate) fn allow(sources: &[Source]) -> Vec<Finding> {
    // Built at run time, because this file would otherwise be a finding.
    let attributes = ["#[", "#!["].map(|open| format!("{open}allow("));
    lines(sources.iter().filter(|source| source.has_extension("rs")))
        .filter(|(_, _, line)| attributes.iter().any(|attribute| line.contains(attribute)))
        .map(|(source, number, _)| {
            Finding::at(source, number, "use #[expect(.., reason = \"..\")]")
        })
        .collect()
}

/// Checks that no public function takes a `bool`. An enum says at the call what is meant.
pub(crate) fn bools(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.has_extension("rs")) {
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            if after_pub(line).is_some_and(|rest| rest.contains("fn ")) {
                // A signature may span lines; its parameters end before the result or the body.
                let signature =
                    lines[index..].iter().take(12).copied().collect::<Vec<_>>().join(" ");
                let end = ["->", "{", ";"].iter().filter_map(|end| signature.find(end)).min();
                if signature[..end.unwrap_or(signature.len())].contains(": bool") {
                    let problem = "a public function takes a `bool`; use an enum";
                    findings.push(Finding::at(source, index + 1, problem));
                }
            }
        }
    }
    findings
}

fn lines<'a>(
    sources: impl Iterator<Item = &'a Source>,
) -> impl Iterator<Item = (&'a Source, usize, &'a str)> {
    sources.flat_map(|source| {
        source.text.lines().enumerate().map(move |(index, line)| (source, index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> [Source; 1] {
        [Source { path: "some/file.rs".into(), text: text.to_owned() }]
    }

    #[test]
    fn a_file_may_have_at_most_700_lines() {
        assert_eq!(length(&source(&"\n".repeat(701))).len(), 1);
        assert!(length(&source(&"\n".repeat(700))).is_empty());
    }

    #[test]
    fn a_letter_beyond_ascii_is_found_with_its_line() {
        let found = ascii(&source("fn main() {}\n// \u{e9}\n"));
        assert_eq!(found[0].place, "some/file.rs:2");
    }

    #[test]
    fn a_bool_parameter_of_a_public_function_is_found() {
        for text in [
            "pub fn f(x: bool) {}",
            "pub(crate) fn f(x: bool) {}",
            "pub const fn f(\n    x: u8,\n    y: bool,\n) {}",
        ] {
            assert_eq!(bools(&source(text)).len(), 1, "{text}");
        }
        for text in ["pub fn f(x: u8) -> bool {}", "fn f(x: bool) {}", "pub struct S { x: bool }"] {
            assert!(bools(&source(text)).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_disabled_lint_is_found() {
        assert_eq!(allow(&source(concat!("#[", "allow(dead_code)]"))).len(), 1);
        assert!(allow(&source("#[expect(dead_code, reason = \"why\")]")).is_empty());
    }
}
