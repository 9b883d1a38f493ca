//! `cargo xtask ci`: all steps of CI in order, with a table of times at the end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::setup::Host;
use crate::{check, fuzz, model, packages, setup, test};

/// Options of `cargo xtask ci`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each fuzz target
    #[arg(long, default_value_t = 20)]
    fuzz_seconds: u64,
    /// Most seconds for a single loom model
    #[arg(long, default_value_t = 60)]
    loom_seconds: u64,
}

/// Folder that the demo loads: a few megabytes of real files on every Debian.
const DEMO_FILES: &str = "/usr/sbin";

/// The completed steps and their times.
#[derive(Default)]
struct Steps {
    taken: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn take<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n==== ci: {name} ====");
        let start = Instant::now();
        let done = step().with_context(|| format!("ci step `{name}`"));
        self.taken.push((name, start.elapsed()));
        done
    }
}

/// Runs all steps and stops at the first that fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    let done = all(args, &mut steps);
    println!();
    for (name, time) in &steps.taken {
        println!("ci: {name:<8} {:>5} s", time.as_secs());
    }
    done
}

fn all(args: &Args, steps: &mut Steps) -> Result<()> {
    let host = steps.take("setup", setup::run)?;
    steps.take("check", || check::run(&check::Args::default()))?;
    steps.take("test", || tests(&host))?;
    let models =
        model::LoomArgs { seconds: Some(args.loom_seconds), strict: true, ..Default::default() };
    steps.take("loom", || model::loom(&models))?;
    steps.take("shuttle", || model::shuttle(&model::Args::default()))?;
    steps.take("miri", model::miri)?;
    steps.take("fuzz", || {
        fuzz::run(&fuzz::Args {
            target: None,
            seconds: args.fuzz_seconds,
            asan: false,
            list: false,
        })
    })?;
    steps.take("demo", || {
        let mut demo = shell::cargo("run");
        shell::run(demo.args(["--release", "-p", packages::BINARY, "--", "demo", DEMO_FILES]))
    })
}

/// Runs the tests. None may skip if all packages are installed.
fn tests(host: &Host) -> Result<()> {
    let report = test::run(&test::Args::default())?;
    let skipped = report.skips().len();
    report.into_result()?;
    match host {
        Host::Complete if shell::is_root() && skipped > 0 => {
            bail!("{skipped} tests skipped although no package is missing")
        }
        Host::Complete => Ok(()),
        Host::Lacks(packages) => {
            println!("==== ci: INCOMPLETE, this host lacks {} ====", packages.join(" "));
            Ok(())
        }
    }
}
