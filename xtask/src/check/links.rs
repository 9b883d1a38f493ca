//! Links in documents are valid: the file exists, and it defines the Rust item that the text names.

use std::path::Path;

use super::Finding;
use super::markdown::{self, Link};
use crate::tree::Source;

/// Checks every relative link of every Markdown file.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let documents = sources.iter().filter(|source| source.has_extension("md"));
    documents
        .flat_map(|document| {
            let links = markdown::links(&document.text).into_iter();
            links.filter_map(|link| {
                Some(Finding::at(document, link.line, problem(document, &link)?))
            })
        })
        .collect()
}

fn problem(document: &Source, link: &Link<'_>) -> Option<String> {
    let is_elsewhere = link.target.contains("://") || link.target.starts_with("mailto:");
    if is_elsewhere || link.target.starts_with('#') {
        return None;
    }
    let file = link.target.split('#').next().unwrap_or_default();
    let path = shell::root().join(document.path.parent().unwrap_or(Path::new(""))).join(file);
    if !path.exists() {
        return Some(format!("{file} does not exist"));
    }
    let (owner, item) = named_item(link.text)?;
    if path.extension().is_none_or(|extension| extension != "rs") {
        return None;
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(owner) = owner.filter(|owner| !implements(&text, owner)) {
        return Some(format!("{file} implements nothing for `{owner}`"));
    }
    (!defines(&text, item)).then(|| format!("{file} does not define `{item}`"))
}

/// Returns the item that a link's text names, and its type: `Zram` and `write` for
/// `` [`Zram::write()`](..) ``.
fn named_item(text: &str) -> Option<(Option<&str>, &str)> {
    let path = text.strip_prefix('`')?.strip_suffix('`')?;
    let mut names = path.trim_end_matches("()").rsplit("::");
    let item = names.next()?;
    let owner = names.next().filter(|name| name.starts_with(char::is_uppercase));
    item.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some((owner, item))
}

/// Returns whether the file defines the type or trait, or has an `impl` that names it.
fn implements(text: &str, owner: &str) -> bool {
    let names_it = |line: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == owner)
    };
    let mut impls = text.lines().filter(|line| line.starts_with("impl"));
    impls.any(names_it) || defines(text, owner)
}

/// Returns whether the file defines an item of this name.
pub(crate) fn defines(text: &str, item: &str) -> bool {
    const KEYWORDS: [&str; 10] = [
        "fn",
        "struct",
        "enum",
        "trait",
        "type",
        "const",
        "static",
        "mod",
        "union",
        "macro_rules!",
    ];
    text.match_indices(item).any(|(start, _)| {
        let before = text[..start].trim_end();
        let after = text[start + item.len()..].chars().next();
        let whole = !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        whole
            && text[..start].ends_with(' ')
            && KEYWORDS.iter().any(|keyword| before.ends_with(keyword))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_counts_only_where_it_is_defined() {
        assert!(defines("pub fn write(&self)", "write"));
        assert!(!defines("self.write(); fn write_all()", "write"));
    }

    #[test]
    fn link_text_in_backticks_names_an_item() {
        assert_eq!(named_item("`Zram::write()`"), Some((Some("Zram"), "write")));
        assert_eq!(named_item("`frames::geometry`"), Some((None, "geometry")));
        assert_eq!(named_item("the write path"), None);
    }

    #[test]
    fn the_type_in_a_link_is_the_types_own() {
        assert!(implements("impl<'z> Frame<'z> {", "Frame"));
        assert!(implements("impl fmt::Display for Pfn {", "Pfn"));
        assert!(implements("pub trait MovableOps {", "MovableOps"));
        assert!(!implements("impl FrameAllocator {", "Zone"));
    }
}
