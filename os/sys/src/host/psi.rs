//! Memory pressure (PSI): the share of time in which tasks stalled for lack of memory.
//!
//! ```text
//!  some avg10=1.53 avg60=0.87 avg300=0.22 total=58761459      at least one task stalled
//!  full avg10=0.40 avg60=0.11 avg300=0.03 total=10183422      all non-idle tasks stalled
//! ```
//! The averages are percentages of the last 10, 60 and 300 seconds; the total is microseconds. The
//! machine has one such file, and each version 2 control group has its own. Either may be missing:
//! the kernel may be old or built without PSI, and a container may hide the file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::limits;

/// The pressure file of the machine.
const MACHINE: &str = "/proc/pressure/memory";

/// The most that is read of a file, so that an endless one cannot fill memory. Units: bytes.
const MAX_FILE_SIZE: u64 = 64 << 10;

/// A share of time. Units: hundredths of a percent, 0..=10000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// All of the time: 100 %.
    pub const ALL: Self = Self(10_000);

    /// Returns a share of `percent` percent; more than 100 becomes 100.
    #[must_use]
    pub const fn percent(percent: u16) -> Self {
        Self::hundredths(percent.saturating_mul(100))
    }

    /// Returns a share of `hundredths` hundredths of a percent; more than 10000 becomes 10000.
    #[must_use]
    pub const fn hundredths(hundredths: u16) -> Self {
        if hundredths >= Self::ALL.0 { Self::ALL } else { Self(hundredths) }
    }

    /// Returns the share. Units: hundredths of a percent.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Parses `12.34`, as the kernel writes it. Its rounding may exceed 100.00 slightly.
    fn parse(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.')?;
        let digits = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?
        };
        let (whole, part) = (digits(whole)?, (part.len() == 2).then(|| digits(part))??);
        (whole <= 101).then(|| Self::hundredths(whole * 100 + part))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} %", self.0 / 100, self.0 % 100)
    }
}

/// One line of a pressure file: how long tasks stalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// The share of the last 10 seconds.
    pub avg10: Share,
    /// The share of the last 60 seconds.
    pub avg60: Share,
    /// The share of the last 300 seconds.
    pub avg300: Share,
    /// The time since boot, or since the control group was created.
    pub total: Duration,
}

/// A reading of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Psi {
    /// At least one task stalled.
    pub some: Stall,
    /// All tasks that were not idle stalled at once.
    pub full: Stall,
}

/// The error of a reading.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PsiError {
    /// The file does not exist: the kernel does not measure pressure, or not for this group.
    #[error("{} does not exist: the kernel does not measure memory pressure here", path.display())]
    Missing {
        /// The path of the file.
        path: PathBuf,
    },
    /// The file exists but cannot be read.
    #[error("cannot read {}: {kind}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The kind of the OS error.
        kind: io::ErrorKind,
    },
    /// The file does not contain a pressure reading.
    #[error("{} does not contain a pressure reading: {what}", path.display())]
    Malformed {
        /// The path of the file.
        path: PathBuf,
        /// The part that is missing or invalid.
        what: &'static str,
    },
}

/// A pressure file, fixed or found at each reading (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PsiSource(Option<PathBuf>);

impl PsiSource {
    /// Returns the source for the whole machine.
    #[must_use]
    pub fn machine() -> Self {
        Self::file(MACHINE)
    }

    /// Returns the source that shows memory shortages of this process. The file is found anew for
    /// each reading, since a process can move to another control group and a group can be removed.
    ///
    /// - A process without a memory limit reads the machine's file. A group's file counts only the
    ///   group's own tasks, so it may show no pressure while the machine is short of memory.
    /// - A process with a limit reads the file of the group that has the limit, or of its own
    ///   version 2 group where the limit is one of version 1, which has no such file.
    #[must_use]
    pub fn this_process() -> Self {
        Self(None)
    }

    /// Returns a source for any file in the kernel's format.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Some(path.into()))
    }

    /// Returns the path that a reading would use now.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        if let Some(path) = &self.0 {
            return path.clone();
        }
        match limited_group().map(|group| group.join("memory.pressure")) {
            Some(file) if file.exists() => file,
            _ => PathBuf::from(MACHINE),
        }
    }

    /// Reads the current pressure. The kernel updates the averages about every two seconds.
    ///
    /// # Errors
    /// [`PsiError`] when the file is missing, unreadable or malformed.
    pub fn read(&self) -> Result<Psi, PsiError> {
        let path = self.path();
        let text = read(&path)?;
        Psi::parse(&text).map_err(|what| PsiError::Malformed { path, what })
    }
}

impl Psi {
    /// Parses the two lines, in any order and among others.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let line = |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let some = line("some").ok_or("no line \"some\"")?;
        let full = line("full").ok_or("no line \"full\"")?;
        Ok(Self { some: Stall::parse(some)?, full: Stall::parse(full)? })
    }
}

impl Stall {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let field =
            |name: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
        let share = |name| field(name).and_then(Share::parse);
        Ok(Self {
            avg10: share("avg10=").ok_or("no avg10 in percent")?,
            avg60: share("avg60=").ok_or("no avg60 in percent")?,
            avg300: share("avg300=").ok_or("no avg300 in percent")?,
            total: field("total=")
                .and_then(|total| total.parse().ok())
                .map(Duration::from_micros)
                .ok_or("no total")?,
        })
    }
}

/// Reads a text file of at most [`MAX_FILE_SIZE`] bytes.
fn read(path: &Path) -> Result<String, PsiError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_SIZE).read_to_string(&mut text));
    match read.map_err(|error| error.kind()) {
        Ok(_) => Ok(text),
        Err(io::ErrorKind::NotFound) => Err(PsiError::Missing { path: path.into() }),
        Err(kind) => Err(PsiError::Unreadable { path: path.into(), kind }),
    }
}

/// Returns the version 2 group whose pressure concerns this process since its memory is limited
/// there, or `None` without a limit.
fn limited_group() -> Option<PathBuf> {
    let membership = read(Path::new("/proc/self/cgroup")).ok()?;
    let mounts = read(Path::new("/proc/self/mountinfo")).ok()?;
    let group = Group::find(&membership, &mounts)?;
    // A limit of version 1 counts, too; one above the machine's memory does not.
    let any_limit = || limits::cgroup_memory_limit().zip(limits::total_memory());
    let is_limited = || any_limit().is_some_and(|(limit, all)| limit < all);
    group.nearest_limited().or_else(|| is_limited().then_some(group.folder))
}

/// A version 2 control group.
#[derive(Debug)]
struct Group {
    /// The mount point of the hierarchy.
    mount: PathBuf,
    folder: PathBuf,
}

impl Group {
    /// Returns the process's own group, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn find(membership: &str, mounts: &str) -> Option<Self> {
        let group = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
        mounts.lines().find_map(|line| {
            // `36 35 98:0 ROOT POINT options - TYPE source superoptions`: a mount of a subtree
            // shows the groups below ROOT.
            let (before, after) = line.split_once(" - ")?;
            (after.split(' ').next()? == "cgroup2").then_some(())?;
            let mut fields = before.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            let below = Path::new(group).strip_prefix(root).ok()?;
            Some(Self { mount: PathBuf::from(point), folder: Path::new(point).join(below) })
        })
    }

    /// Returns the folder of the group, or of its nearest ancestor, that has a limit of its own.
    fn nearest_limited(&self) -> Option<PathBuf> {
        let limit = |file: PathBuf| read(&file).ok()?.trim().parse::<u64>().ok();
        let mut up = self.folder.ancestors().take_while(|folder| folder.starts_with(&self.mount));
        let has = |folder: &Path, name| limit(folder.join(name)).is_some();
        up.find(|up| has(up, "memory.max") || has(up, "memory.high")).map(Path::to_path_buf)
    }
}

#[cfg(test)]
mod tests;
