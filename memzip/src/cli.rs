//! The command line.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use balloon::policy::Settings;
use block::Bytes;
use clap::{Args, Parser, Subcommand, ValueEnum};
use zcomp::Algorithm;
use zram::{ChainRule, Movability};

use crate::control::change_json::{BalloonTarget, CompactRequest};
use crate::maintenance_args::{self, Background};
use crate::output::Format;
use crate::runtime_dir::RuntimeDir;
use crate::{durations, sizes};

/// Default size of a disk: 4G.
pub(crate) const DEFAULT_SIZE: Bytes = Bytes(4 << 30);

/// Keep cold memory compressed, in user space.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a compressed disk over NBD until SIGTERM, SIGINT or SIGHUP
    ///
    /// Each of these signals ends the server in good order: it stops listening, finishes the
    /// requests it has received, and removes its sockets. A closing terminal sends SIGHUP; under
    /// nohup SIGHUP is ignored. A second SIGTERM or SIGINT that arrives half a second or more after
    /// the first signal removes the sockets and ends the server at once, with status 143 or 130.
    ///
    /// The server prints one line, the NBD URI, when the disk is ready. Clients accept it as it is:
    /// nbdcopy FILE URI, nbdinfo URI, qemu-system-x86_64 -drive file=URI,format=raw,if=virtio
    Serve(Box<Serve>),
    /// Show what a running server holds
    Stat(ControlArgs),
    /// Compact the memory of a running server, so that free memory returns to the system
    ///
    /// Objects move into full zspages, which frees frames wherever they lie. Frames move into full
    /// 2 MiB blocks, and the operating system gets the emptied blocks back. Without --objects and
    /// --frames both are compacted.
    Compact(Compact),
    /// Load real files into a disk, read them back, delete half, compact, and report
    Demo(Demo),
    /// Repeat one of the original experiments on real files and compare the results
    ///
    /// The experiment runs in this process. Its table shows the original measurements beside the
    /// new ones.
    Lab(Lab),
    /// Check what this host provides and how to fix what is missing
    Doctor,
}

/// Options of `memzip serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Listen on a unix socket [default: one in the user's runtime folder]
    #[arg(short = 'U', long, value_name = "PATH", conflicts_with = "port")]
    pub(crate) unix: Option<PathBuf>,
    /// Listen on a TCP port of the loopback address; 0 takes any free one
    #[arg(short, long, value_name = "N", value_parser = number::<u16>(0..=65535))]
    pub(crate) port: Option<u16>,
    /// Listen on this address instead of 127.0.0.1; NBD as served here has no encryption and no
    /// password
    #[arg(long, value_name = "ADDR", requires = "port", value_parser = address)]
    pub(crate) bind: Option<IpAddr>,
    /// Set the mode of the unix socket, in octal [default: 600, 660 with --socket-group, 666 with
    /// --allow-uid only]
    ///
    /// The mode alone admits no client: the server also asks the system for the user and groups of
    /// each client. It accepts its own user, root, members of --socket-group and the users of
    /// --allow-uid. The control socket stays closed to other users.
    #[arg(long, value_name = "MODE", value_parser = mode, conflicts_with = "port")]
    pub(crate) socket_mode: Option<u32>,
    /// Let members of this group connect to the unix socket: a name from /etc/group or a number
    #[arg(long, value_name = "GROUP", conflicts_with = "port")]
    pub(crate) socket_group: Option<String>,
    /// Let the user with this number connect to the unix socket, too; may be given several times
    #[arg(long, value_name = "UID", conflicts_with = "port", value_parser = number::<u32>(0..=MAX_UID))]
    pub(crate) allow_uid: Vec<u32>,
    /// Serve at most this many clients at the same time and refuse more
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = number::<u32>(1..=65536))]
    pub(crate) max_connections: u32,
    /// Close a connection whose handshake takes longer than this in all
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = durations::timeout)]
    pub(crate) handshake_timeout: Duration,
    /// Close a connection whose client takes no reply data for this long
    ///
    /// This is also the TCP_USER_TIMEOUT of TCP connections.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = durations::timeout)]
    pub(crate) send_timeout: Duration,
    /// Close a connection that sends no request for this long [default: never]
    ///
    /// Without the option TCP keepalive finds clients that vanished.
    #[arg(long, value_name = "TIME", value_parser = durations::timeout)]
    pub(crate) idle_timeout: Option<Duration>,
    /// Wait this long for requests in flight when the server ends
    ///
    /// Then trims and zeroings still under way are interrupted and refused with ESHUTDOWN, and all
    /// connections are closed. The server ends within a second.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = durations::parse)]
    pub(crate) shutdown_grace: Duration,
    /// Set the size of the disk; memory is taken only as it fills
    #[arg(short, long, value_name = "SIZE", default_value = "4G", value_parser = sizes::parse)]
    pub(crate) size: Bytes,
    /// Compress with lz4, lz4hc[:LEVEL] or zstd[:LEVEL]
    #[arg(short, long, value_name = "NAME", default_value_t = Algorithm::default())]
    pub(crate) algorithm: Algorithm,
    /// Limit the memory of the disk [default: none]
    ///
    /// Pages, free frames, tables and codec contexts count together, as mem_total in "memzip stat",
    /// and so do the frames of the balloon. At the limit the server compacts before it refuses a
    /// write.
    ///
    /// The buffers of connections do not count: less than 1 MiB for each of --max-connections and
    /// of the 512 that may be in the handshake, and 16 MiB in all for long replies; buffer_bytes in
    /// "memzip stat --json".
    ///
    /// At the limit a write may be refused with ENOSPC, an overwrite as well; the old content then
    /// stays whole. Zeros written with NO_HOLE reserve memory for each page or are refused. The
    /// next write to such a page finds that memory, unless the limit is lowered.
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) mem_limit: Option<Bytes>,
    /// Set the name of the export
    #[arg(short, long, value_name = "NAME", default_value = "")]
    pub(crate) export_name: String,
    /// Refuse all changes
    #[arg(short, long)]
    pub(crate) read_only: bool,
    /// Answer "memzip stat", "memzip compact" and curl on this unix socket [default: one in the
    /// user's runtime folder]
    ///
    /// With another path these commands need it, too.
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Return memory of the disk to the operating system: up to SIZE, or "auto" to follow memory
    /// pressure
    ///
    /// The store cannot use memory in the balloon, and it counts against --mem-limit; a SIZE needs
    /// that limit. The balloon deflates when the store has no other memory left. The pressure is
    /// that of the machine, or of the control group that limits the memory of this process.
    #[arg(long, value_name = "auto|SIZE", value_parser = maintenance_args::balloon)]
    pub(crate) balloon: Option<BalloonTarget>,
    /// Inflate the balloon above HIGH percent of memory pressure and deflate it below LOW [default:
    /// 10:1]
    ///
    /// Pressure is the share of time in which some task waits for memory (PSI: some). The balloon
    /// inflates when avg10 is above HIGH, and deflates when avg10 and avg60 are both below LOW.
    #[arg(long, value_name = "HIGH:LOW", requires = "balloon", value_parser = maintenance_args::pressure_settings)]
    pub(crate) balloon_pressure: Option<Settings>,
    /// Keep up to this much of the pages in use uncompressed, for small reads and writes [default:
    /// none]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) hot_cache: Option<Bytes>,
    /// Compact in the background with at most this percentage of one CPU, or "off"
    // 10: memory stays packed while clients overwrite, and they keep nearly all of the machine.
    #[arg(long, value_name = "CPU%|off", default_value = "10", value_parser = maintenance_args::background)]
    pub(crate) compact_background: Background,
    /// Allow frames to be moved; "off" is for comparison
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = maintenance_args::movability)]
    pub(crate) movability: Movability,
    /// Use at most this many frames for a zspage
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = number::<u8>(1..=16))]
    pub(crate) chain: u8,
}

/// The last number of a user; one more means none.
const MAX_UID: u64 = u32::MAX as u64 - 1;

/// Returns a parser of whole numbers in `range`.
fn number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let wrong =
            || format!("a whole number from {} to {} is needed", range.start(), range.end());
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(wrong)
    }
}

/// Parses an IP address.
fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "an IP address is needed, such as 192.0.2.1 or ::1")
}

/// Parses permission bits in octal.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("a mode is an octal number up to 777, such as 660".into()),
    }
}

/// Options of `memzip compact`.
#[derive(Debug, Args)]
pub(crate) struct Compact {
    /// Compact objects; without --frames frames stay
    #[arg(long)]
    objects: bool,
    /// Compact frames; without --objects objects stay
    #[arg(long)]
    frames: bool,
    /// Stop after this many milliseconds; what was moved stays moved [default: when all is done]
    #[arg(long, value_name = "MS", value_parser = number::<u64>(0..=u64::MAX))]
    budget: Option<u64>,
    #[command(flatten)]
    pub(crate) control_args: ControlArgs,
}

impl Compact {
    /// Returns the request to send to the server; neither option means both kinds.
    pub(crate) fn request(&self) -> CompactRequest {
        let neither = !self.objects && !self.frames;
        CompactRequest {
            objects: self.objects || neither,
            frames: self.frames || neither,
            budget_ms: self.budget,
        }
    }
}

/// Common options of `memzip stat` and `memzip compact`.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    #[command(flatten)]
    pub(crate) format: Format,
    /// Ask the server behind this control socket [default: the only one of this user]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl ControlArgs {
    /// Returns the control socket to ask.
    ///
    /// # Errors
    /// None is named, and no server of this user runs or several do.
    pub(crate) fn socket(&self) -> Result<PathBuf> {
        self.control.clone().map_or_else(|| RuntimeDir::open()?.only_server(), Ok)
    }
}

/// Options of `memzip demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Files and folders to load
    #[arg(default_value = "/usr")]
    pub(crate) paths: Vec<PathBuf>,
    /// Load at most this much
    #[arg(short, long, value_name = "SIZE", default_value = "1G", value_parser = sizes::parse)]
    pub(crate) size: Bytes,
    /// Compress with lz4, lz4hc[:LEVEL] or zstd[:LEVEL]
    #[arg(short, long, value_name = "NAME", default_value_t = Algorithm::default())]
    pub(crate) algorithm: Algorithm,
}

/// Options of `memzip lab`.
#[derive(Debug, Args)]
pub(crate) struct Lab {
    /// Run this experiment
    #[arg(value_enum)]
    pub(crate) experiment: Experiment,
    /// Take the pages from these files and folders
    #[arg(default_value = "/usr")]
    pub(crate) paths: Vec<PathBuf>,
    /// Store this much [default: 512M; e3: 1G]
    #[arg(short, long, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) size: Option<Bytes>,
    /// Seed the random choices with this number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::<u64>(0..=u64::MAX))]
    pub(crate) seed: u64,
    /// Compress with lz4, lz4hc[:LEVEL] or zstd[:LEVEL]
    #[arg(short, long, value_name = "NAME", default_value = "lz4")]
    pub(crate) algorithm: Algorithm,
    /// Use at most this many frames for a zspage; the original series used 4
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = number::<u8>(1..=16))]
    pub(crate) chain: u8,
    /// Choose the chain of a size class by this rule: least-waste or used-percent
    ///
    /// least-waste leaves the fewest bytes over in a zspage, as in the current kernel. used-percent
    /// takes the largest used share in whole percent, as in the original series.
    #[arg(long, default_value = "least-waste", value_parser = rule)]
    pub(crate) rule: ChainRule,
    #[command(flatten)]
    pub(crate) format: Format,
}

fn rule(text: &str) -> Result<ChainRule, &'static str> {
    match text {
        "least-waste" => Ok(ChainRule::LeastWaste),
        "used-percent" => Ok(ChainRule::UsedPercent),
        _ => Err("a rule is least-waste or used-percent"),
    }
}

/// The original experiments that run in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Experiment {
    /// Object compaction after random discards
    E1,
    /// Both compactions after a little ageing
    E2,
    /// Frame compaction after eight parallel writers, with movable and with unmovable frames
    E3,
    /// Costs of handles, metadata and locks
    E4,
    /// Allocation of contiguous frames among scattered zspages, with movable and with unmovable
    /// frames
    E5,
}

#[cfg(test)]
mod tests;
