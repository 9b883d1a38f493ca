//! Every package of the build has a licence that `deny.toml` allows, the list that cargo-deny
//! reads.

use anyhow::{Context, Result};
use serde::Deserialize;
use spdx::{Expression, ParseMode};

use super::Finding;
use crate::packages::{Metadata, Package};

/// The part of `deny.toml` that this check reads.
#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

/// Checks the licences in `cargo metadata` against the list.
pub(crate) fn check() -> Result<Vec<Finding>> {
    let path = shell::root().join("deny.toml");
    let deny: Deny =
        toml::from_str(&std::fs::read_to_string(&path)?).context("cannot parse deny.toml")?;
    let metadata = Metadata::of_everything()?;
    Ok(metadata
        .packages
        .iter()
        .filter_map(|package| problem(package, &deny.licenses.allow))
        .collect())
}

fn problem(package: &Package, allowed: &[String]) -> Option<Finding> {
    let place = format!("{} {}", package.name, package.version);
    let Some(licence) = &package.license else {
        return Some(Finding::about(place, "states no licence"));
    };
    match Expression::parse_mode(licence, ParseMode::LAX) {
        Err(_) => Some(Finding::about(place, format!("\"{licence}\" is not a licence expression"))),
        Ok(expression)
            if expression.evaluate(|wanted| is_allowed(&wanted.to_string(), allowed)) =>
        {
            None
        }
        Ok(_) => Some(Finding::about(place, format!("{licence} is not allowed by deny.toml"))),
    }
}

fn is_allowed(wanted: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|name| name == wanted)
}
