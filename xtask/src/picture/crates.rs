//! The crates of the binary, by `cargo metadata`. Each stands above those that it uses.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::rows::Row;
use crate::packages::{self, Package};

/// The part of the workspace's manifest with the layers.
#[derive(Deserialize)]
struct Manifest {
    workspace: Workspace,
}

/// The folders of the members, lower layers first.
#[derive(Deserialize)]
struct Workspace {
    members: Vec<String>,
}

/// Returns the packages that the binary consists of, from the binary down.
pub(crate) fn rows(packages: &[Package]) -> Result<Vec<Row>> {
    let manifest = std::fs::read_to_string(shell::root().join("Cargo.toml"))?;
    let manifest: Manifest = toml::from_str(&manifest).context("cannot parse Cargo.toml")?;
    let layers: Vec<PathBuf> = manifest
        .workspace
        .members
        .iter()
        .map(|member| PathBuf::from(member.trim_end_matches("/*")))
        .collect();
    // The highest layer first, and in a layer the package that rests on most others.
    let layer = |package: &Package| {
        layers.iter().position(|layer| package.folder().starts_with(layer)).unwrap_or(0)
    };
    let mut chosen: Vec<&Package> = below(packages, packages::BINARY).into_iter().collect();
    chosen.sort_by_key(|package| {
        std::cmp::Reverse((layer(package), below(packages, &package.name).len()))
    });
    let row = |package: &&Package| Row {
        group: format!("{}/", layers[layer(package)].display()),
        name: package.name.strip_prefix("memzip-").unwrap_or(&package.name).to_owned(),
        summary: described(package),
        uses: used(package)
            .filter_map(|name| chosen.iter().position(|package| package.name == *name))
            .collect(),
    };
    Ok(chosen.iter().map(row).collect())
}

/// Returns a package and all packages of the workspace below it.
fn below<'a>(packages: &'a [Package], name: &str) -> Vec<&'a Package> {
    let mut found: Vec<&Package> = Vec::new();
    let mut pending = vec![name];
    while let Some(name) = pending.pop() {
        let is_new = found.iter().all(|package| package.name != name);
        if let Some(package) = packages.iter().find(|package| is_new && package.name == name) {
            found.push(package);
            pending.extend(used(package).map(String::as_str));
        }
    }
    found
}

/// Returns the names of the packages that a package needs outside its tests.
fn used(package: &Package) -> impl Iterator<Item = &String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.is_none())
        .map(|dependency| &dependency.name)
}

/// Returns the description in the package's manifest, which begins with the project's name.
fn described(package: &Package) -> String {
    let description = package.description.as_deref().unwrap_or_default();
    description.strip_prefix("memzip: ").unwrap_or(description).to_owned()
}
