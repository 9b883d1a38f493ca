//! Imports stand in three groups: the standard library, other crates, this crate.

use std::cmp::Ordering;

use syn::{Attribute, Item, ItemUse, UseTree, Visibility};

use super::Finding;
use crate::tree::Source;

/// A group of imports, in the order of the groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Group {
    Standard,
    External,
    Own,
}

/// Checks the imports at the top level of every file. Re-exports may stand anywhere.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let rust = sources.iter().filter(|source| source.has_extension("rs"));
    rust.flat_map(check_one).collect()
}

fn check_one(source: &Source) -> Vec<Finding> {
    // The compiler reports a file that cannot be parsed.
    let items = syn::parse_file(&source.text).map(|file| file.items).unwrap_or_default();
    let children: Vec<String> = items.iter().filter_map(child).collect();
    let imports = items.iter().filter_map(|item| match item {
        Item::Use(import) if matches!(import.vis, Visibility::Inherited) => Some(import),
        _ => None,
    });
    let mut last: Option<(Group, usize)> = None;
    let mut findings = Vec::new();
    for import in imports {
        let group = group(import, &children);
        let (first_line, last_line) = lines(import);
        let problem = last.and_then(|(above, line)| problem(above, group, first_line - line > 1));
        findings.extend(problem.map(|problem| Finding::at(source, first_line, problem)));
        last = Some((group, last_line));
    }
    findings
}

/// Returns what is wrong with an import after one of the group `above`.
fn problem(above: Group, group: Group, is_apart: bool) -> Option<&'static str> {
    match group.cmp(&above) {
        Ordering::Less => {
            Some("imports of the standard library come first, then other crates, then this crate")
        }
        Ordering::Greater if !is_apart => Some("an empty line separates the groups"),
        _ => None,
    }
}

fn child(item: &Item) -> Option<String> {
    let Item::Mod(module) = item else { return None };
    Some(module.ident.to_string())
}

fn group(import: &ItemUse, children: &[String]) -> Group {
    let first = match &import.tree {
        UseTree::Path(path) => path.ident.to_string(),
        UseTree::Name(name) => name.ident.to_string(),
        UseTree::Rename(rename) => rename.ident.to_string(),
        UseTree::Glob(_) | UseTree::Group(_) => return Group::External,
    };
    match &*first {
        "std" | "core" | "alloc" => Group::Standard,
        "crate" | "self" | "super" => Group::Own,
        name if children.iter().any(|child| child == name) => Group::Own,
        _ => Group::External,
    }
}

/// Returns the first and the last line of an import, its attributes included.
fn lines(import: &ItemUse) -> (usize, usize) {
    let attribute = |attribute: &Attribute| attribute.pound_token.span.start().line;
    let keyword = import.use_token.span.start().line;
    let first = import.attrs.first().map_or(keyword, attribute);
    (first, import.semi_token.span.end().line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&[Source { path: "some/file.rs".into(), text: text.to_owned() }]).len()
    }

    #[test]
    fn the_groups_have_an_order() {
        assert_eq!(findings("use std::fmt;\n\nuse anyhow::Result;\n\nuse crate::a;\n"), 0);
        assert_eq!(findings("use anyhow::Result;\n\nuse std::fmt;\n"), 1);
        assert_eq!(findings("mod a;\nuse a::A;\n\nuse anyhow::Result;\n"), 1);
        assert_eq!(findings("pub use a::A;\nuse std::fmt;\n"), 0);
    }

    #[test]
    fn an_empty_line_separates_the_groups() {
        assert_eq!(findings("use std::fmt;\nuse anyhow::Result;\n"), 1);
        assert_eq!(
            findings("use std::{\n    fmt,\n    io,\n};\n\n#[cfg(loom)]\nuse crate::a;\n"),
            0
        );
    }
}
