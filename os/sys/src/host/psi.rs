//! Memory pressure as the kernel measures it: how much of the time tasks stood still because memory was short (PSI).
//!
//! ```text
//!  some avg10=1.53 avg60=0.87 avg300=0.22 total=58761459      at least one task waited
//!  full avg10=0.40 avg60=0.11 avg300=0.03 total=10183422      all of them did
//! ```
//! The averages are percent of the last 10, 60 and 300 seconds, the total is microseconds since boot. The machine has one such file and each
//! version 2 control group has its own. Either may be missing: an old kernel, one built without it, a container that hides it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// The file of the machine.
const MACHINE: &str = "/proc/pressure/memory";

/// The file of a control group, in its folder.
const IN_GROUP: &str = "memory.pressure";

/// No more than this is read of any file here: two lines are expected, and a stranger's file must not fill memory.
const MAX_FILE_SIZE: u64 = 64 << 10;

/// A share of time. Units: hundredths of a percent, 0..=10000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// All of the time.
    pub const ALL: Self = Self(10_000);

    /// So many percent; more than 100 is 100.
    #[must_use]
    pub const fn percent(percent: u16) -> Self {
        if percent >= 100 { Self::ALL } else { Self(percent * 100) }
    }

    /// So many hundredths of a percent; more than 10000 is 10000.
    #[must_use]
    pub const fn hundredths(hundredths: u16) -> Self {
        if hundredths >= Self::ALL.0 { Self::ALL } else { Self(hundredths) }
    }

    /// Units: hundredths of a percent.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Reads `12.34`, as the kernel writes it. Its rounding may pass 100.00 by a little, which is taken for 100.
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

/// One line: how long tasks stood still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// Of the last 10 seconds.
    pub avg10: Share,
    /// Of the last 60 seconds.
    pub avg60: Share,
    /// Of the last 300 seconds.
    pub avg300: Share,
    /// Since boot, or since the control group was made.
    pub total: Duration,
}

/// What a pressure file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Psi {
    /// At least one task stood still.
    pub some: Stall,
    /// All tasks that were not idle stood still at once.
    pub full: Stall,
}

/// Why there is no reading.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PsiError {
    /// There is no such file: this kernel does not measure pressure, or not here.
    #[error("{}: there is no such file; the kernel keeps no memory pressure here", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("cannot read {}: {kind}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the OS said.
        kind: io::ErrorKind,
    },
    /// The file says something else than pressure.
    #[error("{} does not hold a pressure reading: {what}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What was looked for and not found.
        what: &'static str,
    },
}

/// A place to read pressure from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PsiSource(Location);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Location {
    ThisProcess,
    File(PathBuf),
}

impl PsiSource {
    /// The whole machine.
    #[must_use]
    pub fn machine() -> Self {
        Self::file(MACHINE)
    }

    /// Where a shortage that concerns this process shows, found anew for each reading, since a process can be moved and its group can go.
    ///
    /// A group's file counts the group's own tasks only. So a process without a limit looks at the machine: in its group nobody may have waited for
    /// memory that all others wait for. A process with a limit looks at the group that has the limit; where the limit is one of version 1, which has no
    /// such file, at its own version 2 group.
    #[must_use]
    pub fn this_process() -> Self {
        Self(Location::ThisProcess)
    }

    /// Any file in the kernel's format.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Location::File(path.into()))
    }

    /// Where it reads now.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &self.0 {
            Location::ThisProcess => limited_group()
                .map(|folder| folder.join(IN_GROUP))
                .filter(|file| file.exists())
                .unwrap_or_else(|| PathBuf::from(MACHINE)),
            Location::File(path) => path.clone(),
        }
    }

    /// What the kernel says now. It recomputes the averages about every two seconds.
    ///
    /// # Errors
    /// [`PsiError`].
    pub fn read(&self) -> Result<Psi, PsiError> {
        let path = self.path();
        let text = read(&path)?;
        Psi::parse(&text).map_err(|what| PsiError::Malformed { path, what })
    }
}

impl Psi {
    /// Reads the two lines, in any order and among others.
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

/// Reads a small text file.
fn read(path: &Path) -> Result<String, PsiError> {
    let mut text = String::new();
    let done = File::open(path).and_then(|file| file.take(MAX_FILE_SIZE).read_to_string(&mut text));
    match done {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(PsiError::Missing { path: path.into() })
        }
        Err(error) => Err(PsiError::Unreadable { path: path.into(), kind: error.kind() }),
    }
}

/// The version 2 group whose pressure is this process's because its memory is limited there; `None` when nothing limits it.
fn limited_group() -> Option<PathBuf> {
    let membership = read(Path::new("/proc/self/cgroup")).ok()?;
    let mounts = read(Path::new("/proc/self/mountinfo")).ok()?;
    let group = Group::find(&membership, &mounts)?;
    let limited = group.nearest_with_a_limit();
    limited.or_else(|| is_limited_by_any_version().then_some(group.folder))
}

/// A limit above what the machine has is none.
fn is_limited_by_any_version() -> bool {
    let (limit, all) = (super::cgroup_memory_limit(), super::total_memory());
    limit.zip(all).is_some_and(|(limit, all)| limit < all)
}

/// A version 2 control group.
#[derive(Debug)]
struct Group {
    /// Where the hierarchy is mounted.
    mount: PathBuf,
    folder: PathBuf,
}

impl Group {
    /// The process's own, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn find(membership: &str, mounts: &str) -> Option<Self> {
        let group = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
        mounts.lines().find_map(|line| {
            // `36 35 98:0 ROOT POINT options - TYPE source superoptions`: a mount of a subtree shows the groups below ROOT.
            let (before, after) = line.split_once(" - ")?;
            (after.split(' ').next()? == "cgroup2").then_some(())?;
            let mut fields = before.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            let below = Path::new(group).strip_prefix(root).ok()?;
            Some(Self { mount: PathBuf::from(point), folder: Path::new(point).join(below) })
        })
    }

    /// The group itself or the nearest above it that has a limit of its own.
    fn nearest_with_a_limit(&self) -> Option<PathBuf> {
        let has_limit = |folder: &Path| {
            let limit = |file| read(&folder.join(file)).ok()?.trim().parse::<u64>().ok();
            limit("memory.max").or_else(|| limit("memory.high")).is_some()
        };
        let up = self.folder.ancestors().take_while(|folder| folder.starts_with(&self.mount));
        up.into_iter().find(|folder| has_limit(folder)).map(Path::to_path_buf)
    }
}

#[cfg(test)]
mod tests;
