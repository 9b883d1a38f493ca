//! memzip as swap space: a guest fills 1.5 times its memory and verifies every page.
//!
//! The server compacts while the guest swaps, so the guest also reads pages that moved.

use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};

use super::server::Stat;
use super::testbed::{GuestArgs, Scenario, Testbed, beside, check_stat};

/// Size of the swap space.
const DISK: &str = "1G";

/// Options of `cargo xtask guest swap`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Memory to fill, in percent of the guest's memory
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u64).range(110..=300))]
    percent: u64,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 256)]
    memory: u64,
    #[command(flatten)]
    guest: GuestArgs,
}

/// Boots the guest, fills its memory, compacts and verifies, and prints the counts.
pub(crate) fn run(args: &Args) -> Result<()> {
    let testbed = Testbed::prepare(&args.guest)?;
    let server = testbed.serve(&["--size", DISK, "--compact-background", "100"])?;
    let words = format!("percent={}", args.percent);
    let scenario =
        Scenario { name: "swap", memory: args.memory, words, source: None, server: Some(&server) };
    let mut guest = testbed.boot(&scenario, &args.guest.machine)?;
    guest.wait_for("full")?;
    let full = server.stat()?;
    guest.resume()?;
    // Compact until the guest has verified everything and switched swapping off.
    let compact = |over: &AtomicBool| server.compact_until(over).context("compacting");
    let (said, compactions) = beside(compact, || guest.wait_for("swapoff"))?;
    let after = server.stat()?;
    guest.resume()?;
    guest.wait_for("done")?;
    check_stat(&after)?;
    let count = |name: &str| said.iter().find_map(|line| counter(line, name));
    let (out, back) = (count("pswpout"), count("pswpin"));
    let (out, back) =
        (out.context("the guest has no pswpout")?, back.context("the guest has no pswpin")?);
    if out == 0 || back == 0 {
        bail!("the guest did not swap in both directions: {out} pages out, {back} in");
    }
    println!("\nswap in a guest of {} MiB, filled to {} %", args.memory, args.percent);
    said.iter().for_each(|line| println!("  {line}"));
    println!("  pages swapped out {out}, in {back}");
    let moved = [
        after.compaction.get("objects_moved"),
        after.vmstat.get("pgmigrate_success").copied().unwrap_or(0),
    ];
    println!(
        "  meanwhile {compactions} compactions moved {} objects and {} frames",
        moved[0], moved[1]
    );
    print("full", &full);
    print("after swapoff", &after);
    println!("verified: every page is what was written, before and after a third of them changed");
    Ok(())
}

/// Returns the number in a line `vmstat NAME N`.
fn counter(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix("vmstat ")?.strip_prefix(name)?.trim().parse().ok()
}

fn print(when: &str, stat: &Stat) {
    println!(
        "  server, {when}: orig_data_size {} MiB, compr_data_size {} MiB, mem_used_total {} MiB, mem_total {} MiB, \
         discarded {} pages",
        stat.orig_data_size >> 20,
        stat.compr_data_size >> 20,
        stat.mem_used_total >> 20,
        stat.mem_total >> 20,
        stat.io.get("notify_free").copied().unwrap_or(0),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name() {
        assert_eq!(counter("vmstat pswpout 17", "pswpout"), Some(17));
        assert_eq!(counter("vmstat pswpout 17", "pswpin"), None);
        assert_eq!(counter("pswpout 17", "pswpout"), None);
    }
}
