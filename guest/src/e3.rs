//! Experiment E-3 in a guest: eight writers of 128 MiB each fill an ext4, half of the files are
//! deleted, and both compactions run. The same boot does it on the guest kernel's own zram and on
//! memzip's disk, with the same data, algorithm and disk size.
//!
//! memzip's memory is limited to 1.1 times its peak, so that "free" has a meaning. A first boot
//! measures the peak: it only writes, to a server without a limit. ext4's journal is zeros that
//! must not become holes, so what they reserve is a part of the peak.

mod measured;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::data;
use super::figures::{FRAME, FreeBlocks, largest_zone};
use super::machine::Machine;
use super::server::Server;
use super::testbed::{GuestArgs, Scenario, Testbed, check_stat};
use measured::{Kernel, Measured, Memzip, PART_MIB, Snapshot, WRITERS};
use table::Report;

/// Size of the disk: the files and ext4's metadata. Units: bytes.
const DISK: u64 = 1280 << 20;

/// Options of `cargo xtask guest e3`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Algorithm of both devices: zstd or lz4
    #[arg(long, default_value = "zstd", value_parser = ["zstd", "lz4"])]
    algorithm: String,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u64,
    #[command(flatten)]
    guest: GuestArgs,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// The state that both boots share.
struct Bench {
    testbed: Testbed,
    source: PathBuf,
}

/// Prepares the guest, boots it twice and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let bench = Bench::prepare(args)?;
    let peak = bench.peak(args)?;
    let limit = (peak * 11).div_ceil(10).next_multiple_of(FRAME);
    let measured = bench.measure(args, peak, limit)?;
    let report = Report::of(&measured)?;
    let json = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
    let kept = bench.testbed.folder.path.join("e3.json");
    std::fs::write(&kept, &json).with_context(|| format!("cannot write {}", kept.display()))?;
    if args.json {
        println!("{json}");
    } else {
        println!("\n{report}");
    }
    Ok(())
}

impl Bench {
    fn prepare(args: &Args) -> Result<Self> {
        let testbed = Testbed::prepare(&args.guest)?;
        let source = testbed.folder.path.join("source.raw");
        eprintln!("guest: copying {} MiB of this machine's own files", WRITERS * PART_MIB);
        data::write(&source, (WRITERS * PART_MIB) << 20)?;
        Ok(Self { testbed, source })
    }

    /// Returns the most that counts against a limit while the files are written. Nothing is
    /// deleted, so this is what counts at the end. Units: bytes.
    fn peak(&self, args: &Args) -> Result<u64> {
        let server = self.server(args, None)?;
        let mut guest = self.boot(args, &server, "peak")?;
        guest.wait_for("done")?;
        let stat = server.stat()?;
        check_stat(&stat)?;
        Ok(stat.mem_total + stat.mem_reserved)
    }

    fn measure(&self, args: &Args, peak: u64, limit: u64) -> Result<Measured> {
        let server = self.server(args, Some(limit))?;
        let mut guest = self.boot(args, &server, "measure")?;
        let said = guest.wait_for("verified /dev/zram0")?;
        guest.wait_for("ready")?;
        let before = server.stat()?;
        let compaction = server.compact()?;
        let after = server.stat()?;
        guest.resume()?;
        guest.wait_for("done")?;
        check_stat(&server.stat()?)?;
        if compaction.outcome != "done" {
            bail!("memzip's compaction ended with \"{}\"", compaction.outcome);
        }
        Ok(Measured {
            algorithm: before.comp_algorithm.clone(),
            kernel: Kernel::from_lines(&said, before.disksize)?,
            memzip: Memzip { peak, before, compaction, after },
        })
    }

    fn server(&self, args: &Args, limit: Option<u64>) -> Result<Server> {
        let (size, limit) = (DISK.to_string(), limit.map(|limit| limit.to_string()));
        // Background compaction would change the figures from before the compaction.
        let mut options =
            vec!["--size", &size, "--algorithm", &args.algorithm, "--compact-background", "off"];
        options.extend(limit.iter().flat_map(|limit| ["--mem-limit", limit]));
        self.testbed.serve(&options)
    }

    fn boot(&self, args: &Args, server: &Server, pass: &str) -> Result<Machine> {
        let words = format!("pass={pass} part={PART_MIB} algorithm={}", args.algorithm);
        let (source, server) = (Some(self.source.as_path()), Some(server));
        let scenario = Scenario { name: "e3", memory: args.memory, words, source, server };
        self.testbed.boot(&scenario, &args.guest.machine)
    }
}

impl Kernel {
    /// Parses the guest's lines about its own zram.
    fn from_lines(said: &[String], disksize: u64) -> Result<Self> {
        let about =
            |first: &str| said.iter().find_map(|line| line.strip_prefix(first)).map(str::trim);
        let release = about("kernel ").and_then(|rest| rest.split_whitespace().next());
        Ok(Self {
            release: release.context("the guest did not name its kernel")?.to_owned(),
            disksize,
            before: Snapshot::from_lines(said, "before")?,
            objects: Snapshot::from_lines(said, "objects")?,
            after: Snapshot::from_lines(said, "after")?,
        })
    }
}

impl Snapshot {
    fn from_lines(said: &[String], moment: &str) -> Result<Self> {
        let file = |name: &str| {
            let prefix = format!("{moment} {name} ");
            said.iter()
                .filter_map(move |line| line.strip_prefix(&prefix).map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let zones: Vec<FreeBlocks> =
            file("buddyinfo").iter().filter_map(|line| FreeBlocks::parse(line)).collect();
        let mm_stat = file("mm_stat").iter().find_map(|line| line.parse().ok());
        Ok(Self {
            zone: largest_zone(&zones)
                .cloned()
                .with_context(|| format!("no buddyinfo {moment} compaction"))?,
            mm_stat: mm_stat.with_context(|| format!("no mm_stat {moment} compaction"))?,
            zones,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "kernel 6.12.1-cloud comp_algorithm lz4 [zstd]
filled /dev/zram0
before buddyinfo Node 0, zone      DMA      1      0      3
before buddyinfo Node 0, zone    DMA32      9      9      9
before mm_stat 8192000 100 200 0 300 50 0 1 1
objects buddyinfo Node 0, zone    DMA32      8      9      9
objects mm_stat 8192000 100 150 0 300 50 7 1 1
after buddyinfo Node 0, zone    DMA32      1      1     20
after mm_stat 8192000 100 140 0 300 50 7 1 1";

    fn said() -> Vec<String> {
        SAID.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_guests_snapshots_are_parsed() {
        let kernel = Kernel::from_lines(&said(), 1 << 30).expect("the lines are complete");
        assert_eq!(kernel.release, "6.12.1-cloud");
        assert_eq!((kernel.before.zone.zone.as_str(), kernel.before.zones.len()), ("DMA32", 2));
        assert_eq!(kernel.objects.mm_stat.pages_compacted, 7);
        assert_eq!((kernel.after.zone.blocks[2], kernel.after.mm_stat.mem_used_total), (20, 140));
    }

    #[test]
    fn a_missing_line_is_an_error() {
        for left_out in ["kernel ", "before mm_stat", "after buddyinfo"] {
            let lines: Vec<String> =
                said().into_iter().filter(|line| !line.starts_with(left_out)).collect();
            assert!(Kernel::from_lines(&lines, 1 << 30).is_err(), "{left_out}");
        }
    }
}
