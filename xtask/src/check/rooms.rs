//! The order of the `mod` lines is the order of layers: a file uses only modules that are declared
//! above it, and its own children.

use anyhow::{Context, Result};

use super::Finding;
use crate::modules::{Arrow, Arrows, Direction, ModuleTree};
use crate::packages::Metadata;
use crate::tree::Source;

/// The packages whose files follow the rule.
const PACKAGES: [&str; 15] = [
    "memzip-sync",
    "memzip-sys",
    "memzip-frames",
    "memzip-zsmalloc",
    "memzip-balloon",
    "memzip-block",
    "memzip-zcomp",
    "memzip-page",
    "memzip-zram",
    "memzip-nbd",
    "memzip-nbd-client",
    "memzip",
    "memzip-testkit",
    "memzip-guest",
    "xtask",
];

/// Checks the files of [`PACKAGES`].
pub(crate) fn check(sources: &[Source]) -> Result<Vec<Finding>> {
    let packages = Metadata::of_workspace(shell::root())?.packages;
    let mut findings = Vec::new();
    for name in PACKAGES {
        let package = packages.iter().find(|package| package.name == name);
        let package = package.with_context(|| format!("the workspace has no package {name}"))?;
        for tree in ModuleTree::of_package(package, sources)? {
            findings.extend(findings_in(&tree));
        }
    }
    Ok(findings)
}

/// Prints the number of files and arrows of each package, and the findings of one of them.
pub(crate) fn print(sources: &[Source], wanted: &str) -> Result<()> {
    println!("{:<18}{:>7}{:>8}{:>11}{:>18}", "crate", "files", "arrows", "arrows up", "in circles");
    let mut findings = Vec::new();
    for package in Metadata::of_workspace(shell::root())?.packages {
        let [mut files, mut all, mut up, mut circles] = [0; 4];
        for tree in ModuleTree::of_package(&package, sources)? {
            let arrows = Arrows::of(&tree);
            files += tree.files().count();
            all += arrows.iter().count();
            circles += arrows.files_in_circles();
            let found = findings_in(&tree);
            up += found.len();
            findings.extend(found.into_iter().filter(|_| package.name == wanted));
        }
        println!("{:<18}{files:>7}{all:>8}{up:>11}{circles:>18}", package.name);
    }
    findings.iter().for_each(|finding| println!("{}: {}", finding.place, finding.problem));
    Ok(())
}

fn findings_in(tree: &ModuleTree) -> Vec<Finding> {
    Arrows::of(tree).iter().filter_map(|arrow| finding(tree, &arrow)).collect()
}

fn finding(tree: &ModuleTree, arrow: &Arrow) -> Option<Finding> {
    let (from, to) = (tree.path(arrow.from), tree.path(arrow.to));
    let problem = match arrow.direction {
        Direction::Down => return None,
        Direction::Up => format!("`{from}` uses `{to}`, which is declared below it"),
        Direction::Circle => {
            format!("`{from}` uses its parent `{to}`, and is used by it; move what both need")
        }
    };
    Some(Finding::about(format!("{}:{}", tree.file(arrow.from).display(), arrow.line), problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_the_place_and_both_modules() {
        let tree = ModuleTree::of_snippets(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "\nuse crate::b::B;"),
            ("src/b.rs", "mod c; fn f() { c::g() } pub struct B;"),
            ("src/b/c.rs", "pub fn g(_: super::B) {}"),
        ]);
        let found: Vec<String> = findings_in(&tree)
            .iter()
            .map(|finding| format!("{}: {}", finding.place, finding.problem))
            .collect();
        assert_eq!(
            found,
            [
                "src/a.rs:2: `a` uses `b`, which is declared below it",
                "src/b/c.rs:1: `b::c` uses its parent `b`, and is used by it; move what both need",
            ]
        );
    }
}
