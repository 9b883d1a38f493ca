//! `cargo xtask e2e`: runs only the end-to-end tests, real NBD clients against the binary.

use anyhow::Result;

use crate::test;

/// Options of `cargo xtask e2e`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only tests whose names contain this
    filter: Option<String>,
}

/// Runs the end-to-end tests of the `memzip` package.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cargo: Vec<String> = ["-p", "memzip", "--test", "e2e"].map(str::to_owned).into();
    cargo.extend(args.filter.clone());
    test::run(&test::Args { cargo })?.into_result()
}
