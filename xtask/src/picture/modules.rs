//! The modules of a library's root, in the reverse order of their declarations. Each stands above
//! those that it uses.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::rows::Row;
use crate::modules::{Arrows, ModuleTree};
use crate::packages::Package;
use crate::tree::Source;

/// Most columns of a summary.
const MAX_SUMMARY: usize = 80;

/// Returns the rows of a package's library.
pub(crate) fn rows(package: &Package, sources: &[Source]) -> Result<Vec<Row>> {
    let trees = ModuleTree::of_package(package, sources)?;
    let tree = trees.first().with_context(|| format!("{} has no library", package.name))?;
    // A use counts for the module of the root that the file is in.
    let top = |id| tree.line(id).get(1).copied();
    let arrows = Arrows::of(tree);
    let arrows: BTreeSet<_> =
        arrows.iter().filter_map(|arrow| Some((top(arrow.from)?, top(arrow.to)?))).collect();
    let modules: Vec<_> = tree.children(0).iter().rev().copied().collect();
    let row = |id: &usize| Row {
        group: String::new(),
        name: tree.name(*id).to_owned() + if tree.children(*id).is_empty() { "" } else { "/" },
        summary: shortened(tree.summary(*id)),
        uses: arrows
            .iter()
            .filter(|(from, to)| from == id && to != id)
            .filter_map(|(_, to)| modules.iter().position(|module| module == to))
            .collect(),
    };
    Ok(modules.iter().map(row).collect())
}

/// Returns the first sentence of a summary, or its beginning if the sentence is long.
fn shortened(summary: &str) -> String {
    let plain = summary.replace(['`', '[', ']'], "");
    let sentence = plain.split_once(". ").map_or(&*plain, |(first, _)| first);
    let sentence = sentence.trim_end_matches('.');
    if sentence.len() <= MAX_SUMMARY {
        return sentence.to_owned();
    }
    let ends = [": ", "; ", ", so ", " so that ", ", which ", ", for "]
        .iter()
        .flat_map(|end| sentence.match_indices(end).map(|(position, _)| position));
    let end = ends.filter(|end| *end <= MAX_SUMMARY).max();
    sentence[..end.unwrap_or(sentence.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_its_first_sentence_or_less() {
        assert_eq!(shortened("Errors of [`Zone`]. More."), "Errors of Zone");
        let long = format!("The zone: all frames, and {}.", "x".repeat(80));
        assert_eq!(shortened(&long), "The zone");
    }
}
