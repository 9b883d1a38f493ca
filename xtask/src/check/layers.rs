//! Dependencies between crates follow the table of crates in ARCHITECTURE.md.
//!
//! A row names a folder, its crates (library name, then package name), and their allowed
//! dependencies: `nothing`, `all`, a layer's folder (`os`, `mm`), or a crate's library name. Tests
//! may also use `testkit`, and other crates of the same layer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{Finding, markdown};
use crate::packages::{Metadata, Package};
use crate::tree::Source;

/// The document with the table.
const LAYER_DOCUMENT: &str = "ARCHITECTURE.md";
/// The first cells of the table's header.
const HEADER: [&str; 3] = ["folder", "crate (package)", "may depend on"];
/// The package that the tests of every crate may use.
const TESTKIT: &str = "memzip-testkit";

/// Checks the dependencies in `cargo metadata` against the table.
pub(crate) fn check(sources: &[Source]) -> Result<Vec<Finding>> {
    let text = &sources
        .iter()
        .find(|source| source.path.as_os_str() == LAYER_DOCUMENT)
        .context("ARCHITECTURE.md is missing")?
        .text;
    let packages: Vec<Package> = Metadata::of_everything()?
        .packages
        .into_iter()
        .filter(|package| package.source.is_none())
        .collect();
    let table = LayerTable::read(text, &packages)?;
    Ok(packages.iter().flat_map(|package| table.findings(package)).collect())
}

/// The allowed dependencies of each package, among the packages of this repository.
struct LayerTable {
    allowed: BTreeMap<String, BTreeSet<String>>,
    /// The layer of each package, which is its top folder.
    layers: BTreeMap<String, PathBuf>,
}

impl LayerTable {
    fn read(text: &str, packages: &[Package]) -> Result<Self> {
        let mut rows =
            markdown::rows(text).into_iter().skip_while(|(_, cells)| !cells.starts_with(&HEADER));
        rows.next().context("ARCHITECTURE.md has no table of crates")?;
        let table = rows.take_while(|(_, cells)| cells.len() == 4).map(|(_, cells)| cells);
        let mut allowed = BTreeMap::new();
        for cells in table {
            // "os/sync" is one folder; the last row lists several.
            for folder in cells[0].split(", ") {
                let Some(package) =
                    packages.iter().find(|package| package.folder().as_os_str() == folder)
                else {
                    continue;
                };
                allowed.insert(package.name.clone(), granted(cells[2], packages)?);
            }
        }
        let layer = |package: &Package| {
            package.folder().components().next().map(|top| PathBuf::from(top.as_os_str()))
        };
        let layers = packages
            .iter()
            .filter_map(|package| Some((package.name.clone(), layer(package)?)))
            .collect();
        Ok(LayerTable { allowed, layers })
    }

    fn findings(&self, package: &Package) -> Vec<Finding> {
        let Some(allowed) = self.allowed.get(&package.name) else {
            return vec![Finding::about(
                &package.name,
                format!("has no row in the table of crates in {LAYER_DOCUMENT}"),
            )];
        };
        let ours = package
            .dependencies
            .iter()
            .filter(|dependency| self.allowed.contains_key(&dependency.name));
        // Tests may also use testkit and the crates of their own layer.
        let refused = ours.filter(|dependency| {
            let neighbours = self.layers.get(&dependency.name) == self.layers.get(&package.name);
            let for_tests = dependency.kind.as_deref() == Some("dev")
                && (dependency.name == TESTKIT || neighbours);
            !for_tests && dependency.name != package.name && !allowed.contains(&dependency.name)
        });
        let describe = |name: &str| {
            format!("must not depend on {name}: the layers in {LAYER_DOCUMENT} do not allow it")
        };
        refused
            .map(|dependency| Finding::about(&package.name, describe(&dependency.name)))
            .collect()
    }
}

/// Returns the packages that a cell "may depend on" allows.
fn granted(cell: &str, packages: &[Package]) -> Result<BTreeSet<String>> {
    let mut granted = BTreeSet::new();
    for word in cell.split(", ").filter(|word| *word != "nothing") {
        let in_folder =
            packages.iter().filter(|package| word == "all" || package.folder().starts_with(word));
        let by_name = packages.iter().filter(|package| library_name(package) == Some(word));
        let found: Vec<String> =
            in_folder.chain(by_name).map(|package| package.name.clone()).collect();
        if found.is_empty() {
            bail!("{LAYER_DOCUMENT}: \"{word}\" is neither a layer nor a crate");
        }
        granted.extend(found);
    }
    Ok(granted)
}

fn library_name(package: &Package) -> Option<&str> {
    let library =
        package.targets.iter().find(|target| target.kind.iter().any(|kind| kind == "lib"))?;
    Some(&library.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{Dependency, Target};

    fn package(folder: &str, depends_on: &[&str]) -> Package {
        let name = folder.rsplit('/').next().unwrap_or_default().to_owned();
        let dependencies = depends_on
            .iter()
            .map(|name| Dependency { name: (*name).to_owned(), kind: None })
            .collect();
        let targets = vec![Target {
            name: name.clone(),
            kind: vec!["lib".to_owned()],
            src_path: folder.into(),
        }];
        let manifest_path = shell::root().join(folder).join("Cargo.toml");
        Package {
            name,
            version: "0.1.0".to_owned(),
            license: None,
            description: None,
            source: None,
            manifest_path,
            dependencies,
            targets,
        }
    }

    const TABLE: &str = "\
| folder | crate (package) | may depend on | holds |
|---|---|---|---|
| os/sys | `sys` | os | x |
| mm/frames | `frames` | os | x |
| store/zram | `zram` | mm, sys | x |
";

    fn findings(packages: &[Package]) -> Vec<String> {
        let table = LayerTable::read(TABLE, packages).expect("the table is well formed");
        packages
            .iter()
            .flat_map(|package| table.findings(package))
            .map(|finding| finding.place)
            .collect()
    }

    #[test]
    fn a_dependency_on_a_higher_layer_is_found() {
        let down = [
            package("os/sys", &[]),
            package("mm/frames", &["sys"]),
            package("store/zram", &["frames", "sys"]),
        ];
        assert!(findings(&down).is_empty());
        let up =
            [package("os/sys", &[]), package("mm/frames", &["zram"]), package("store/zram", &[])];
        assert_eq!(findings(&up), ["frames"]);
    }

    #[test]
    fn tests_may_use_crates_of_their_own_layer() {
        let mut sys = package("os/sys", &["sync"]);
        let mut frames = package("mm/frames", &["zram"]);
        for package in [&mut sys, &mut frames] {
            package.dependencies[0].kind = Some("dev".to_owned());
        }
        let packages = [sys, frames, package("store/zram", &[]), package("os/sync", &[])];
        let mut found = findings(&packages);
        found.retain(|place| place != "sync");
        assert_eq!(found, ["frames"]);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let packages = [
            package("os/sys", &[]),
            package("mm/frames", &[]),
            package("store/zram", &[]),
            package("new/room", &[]),
        ];
        assert_eq!(findings(&packages), ["room"]);
    }
}
