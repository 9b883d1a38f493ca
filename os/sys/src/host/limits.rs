//! Limits on the resources of this process.

use rustix::process::Resource;

use crate::rss::kib_field;

const MEMINFO: &str = "/proc/meminfo";

/// The kernel's policy for reservations of address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overcommit {
    /// Refuses obvious overcommits, but not reservations without swap accounting. The default.
    Heuristic,
    /// Refuses nothing.
    Always,
    /// Counts every reservation against a fixed limit, even if it is never touched.
    Never,
    /// The policy cannot be read.
    Unknown,
}

/// The resource limits of a process; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The limit on address space (`ulimit -v`). Units: bytes.
    pub address_space: Option<u64>,
    /// The limit on open files (`ulimit -n`); each client uses one.
    pub open_files: Option<u64>,
}

/// Returns the soft limits of this process.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        address_space: rustix::process::getrlimit(Resource::As).current,
        open_files: rustix::process::getrlimit(Resource::Nofile).current,
    }
}

/// Raises the limit on open files to its maximum and returns the new limit, or the old one if the
/// OS refuses; `None` is no limit.
pub fn raise_open_files() -> Option<u64> {
    let old = rustix::process::getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: old.maximum, maximum: old.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).map_or(old.current, |()| raised.current)
}

/// Returns the kernel's policy for reservations of address space.
#[must_use]
pub fn overcommit() -> Overcommit {
    match read("/proc/sys/vm/overcommit_memory").as_deref().map(str::trim) {
        Some("0") => Overcommit::Heuristic,
        Some("1") => Overcommit::Always,
        Some("2") => Overcommit::Never,
        _ => Overcommit::Unknown,
    }
}

/// Returns the bytes a new load could use without swapping, as the kernel estimates it.
#[must_use]
pub fn available_memory() -> Option<u64> {
    kib_field(MEMINFO, "MemAvailable:")
}

/// Returns the unused memory of the machine. Units: bytes.
#[must_use]
pub fn free_memory() -> Option<u64> {
    kib_field(MEMINFO, "MemFree:")
}

/// Returns the total memory of the machine. Units: bytes.
pub(super) fn total_memory() -> Option<u64> {
    kib_field(MEMINFO, "MemTotal:")
}

/// Returns the memory pressure line `some avg10=.. avg60=.. ..`, if the kernel provides it.
#[must_use]
pub fn pressure() -> Option<String> {
    let text = read("/proc/pressure/memory")?;
    text.lines().find(|line| line.starts_with("some")).map(str::to_owned)
}

/// Returns the smallest memory limit among this process's control group and its ancestors, of
/// version 2 and version 1 at their usual mount points. Units: bytes.
#[must_use]
pub fn cgroup_memory_limit() -> Option<u64> {
    let membership = read("/proc/self/cgroup")?;
    let files = membership.lines().filter_map(limit_files).flatten();
    files.filter_map(|file| limit(&read(&file)?)).min()
}

/// Returns the limit files of a `/proc/self/cgroup` line, from the group up to the mount's root.
fn limit_files(line: &str) -> Option<Vec<String>> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (mount, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        named if named.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let own = path.trim_end_matches('/');
    let levels = std::iter::successors(Some(own), |path| Some(path.rsplit_once('/')?.0));
    Some(levels.map(|path| format!("{mount}{path}/{file}")).collect())
}

/// Parses a limit. Version 1 writes "no limit" as a number near 2^63, version 2 as the word `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes < 1 << 62)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_and_its_ancestors_are_read() {
        let files = limit_files("0::/user.slice/app").expect("a version 2 line");
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/user.slice/app/memory.max",
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        let files =
            limit_files("5:cpu,memory:/").expect("a version 1 line with the memory controller");
        assert_eq!(files, ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]);
        assert_eq!(limit_files("3:pids:/x"), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "asks the OS")]
    fn open_files_are_raised_to_the_hard_limit() {
        let allowed = rustix::process::getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise_open_files(), allowed);
        assert_eq!(limits().open_files, allowed);
    }

    #[test]
    fn no_limit_is_none_in_both_versions() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("1073741824\n"), Some(1 << 30));
    }
}
