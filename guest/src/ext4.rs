//! memzip under ext4 with `-o discard`. The guest writes, changes, verifies and deletes files,
//! while on the host a balloon inflates and deflates, the hot cache shrinks, and both compactions
//! run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::server::{Server, Stat};
use super::testbed::{GuestArgs, Scenario, Testbed, beside, check_stat};

/// Memory limit, so small that balloon, hot cache and pages compete for memory.
const LIMIT: &str = "192M";
/// Size of the hot cache.
const HOT_CACHE: &str = "8M";
/// Sizes of the balloon, which are set in turn. Units: bytes.
const BALLOON: [u64; 4] = [48 << 20, 0, 96 << 20, 16 << 20];
/// Time between two changes of the balloon.
const PAUSE: Duration = Duration::from_millis(300);

/// Options of `cargo xtask guest ext4`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of rounds that delete and rewrite half of the files
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// Total length of all files in MiB
    #[arg(long, default_value_t = 192, value_parser = clap::value_parser!(u64).range(16..=300))]
    mib: u64,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 256)]
    memory: u64,
    #[command(flatten)]
    guest: GuestArgs,
}

/// Boots the guest, changes the store while the guest works, and checks that every part took part.
pub(crate) fn run(args: &Args) -> Result<()> {
    let testbed = Testbed::prepare(&args.guest)?;
    let options = [
        "--size",
        "512M",
        "--mem-limit",
        LIMIT,
        "--hot-cache",
        HOT_CACHE,
        "--compact-background",
        "100",
    ];
    let server = testbed.serve(&options)?;
    let words = format!("rounds={} mib={}", args.rounds, args.mib);
    let scenario =
        Scenario { name: "ext4", memory: args.memory, words, source: None, server: Some(&server) };
    let mut guest = testbed.boot(&scenario, &args.guest.machine)?;
    // Compact and change the balloon until the guest unmounts the disk.
    let compact = |over: &AtomicBool| server.compact_until(over).context("compacting");
    let resize =
        |over: &AtomicBool| inflate_and_deflate(&server, over).context("changing the balloon");
    let unmounted = || guest.wait_for("unmounted");
    let ((said, ()), compactions) = beside(compact, || beside(resize, unmounted))?;
    let stat = server.stat()?;
    guest.resume()?;
    guest.wait_for("done")?;
    check_stat(&stat)?;
    println!(
        "\next4 with discard in a guest, {} rounds over {} MiB, limit {LIMIT}, hot cache {HOT_CACHE}",
        args.rounds, args.mib
    );
    said.iter().for_each(|line| println!("  {line}"));
    println!("  compactions asked for: {compactions}");
    let parts = parts(&stat);
    parts.iter().for_each(|(what, count)| println!("  {what}: {count}"));
    if let Some((idle, _)) = parts.iter().find(|&&(_, count)| count == 0) {
        bail!("the scenario is incomplete: {idle}: 0");
    }
    println!("verified: every file is what was written, each time it was read");
    Ok(())
}

/// Sets the balloon's sizes in turn until `over` is set.
fn inflate_and_deflate(server: &Server, over: &AtomicBool) -> Result<()> {
    for target in BALLOON.into_iter().cycle() {
        // Relaxed: it may stop a little later.
        if over.load(Ordering::Relaxed) {
            break;
        }
        server.set_balloon(target)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Returns the parts of the store that must have been active, with their counts.
fn parts(stat: &Stat) -> [(&'static str, u64); 8] {
    let vmstat = |name: &str| stat.vmstat.get(name).copied().unwrap_or(0);
    [
        ("pages discarded", stat.io.get("notify_free").copied().unwrap_or(0)),
        ("objects moved by object compaction", stat.compaction.get("objects_moved")),
        ("frames moved by migration", vmstat("pgmigrate_success")),
        ("bytes the balloon inflated", stat.balloon.get("inflated_total")),
        ("bytes the balloon deflated", stat.balloon.get("deflated_total")),
        ("pages admitted to the hot cache", stat.hot_cache.get("admissions")),
        ("pages evicted from the hot cache", stat.hot_cache.get("evictions")),
        ("hits in the hot cache", stat.hot_cache.get("hits")),
    ]
}
