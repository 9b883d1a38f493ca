//! Requirements of memzip, each checked by trying it.

use std::os::unix::net::UnixListener;

use anyhow::{Context, Result};
use sys::host::{self, Overcommit};
use zram::{Zram, ZramConfig};

use super::finding::Finding;
use crate::cli::DEFAULT_SIZE;
use crate::runtime_dir::RuntimeDir;
use crate::sizes::human;

/// Available memory below which a note is printed. Units: bytes.
const LITTLE_MEMORY: u64 = 256 << 20;
/// Limit of open files below which a note is printed.
const FEW_FILES: u64 = 1024;

/// Runs all checks of requirements; returns their subjects and findings.
pub(super) fn all() -> [(&'static str, Finding); 4] {
    [
        ("address space", address_space()),
        ("unix sockets", sockets()),
        ("memory", memory()),
        ("open files", open_files()),
    ]
}

fn address_space() -> Finding {
    let address_space = host::limits().address_space;
    let limit = address_space.map_or("no limit".into(), |bytes| format!("limit {}", human(bytes)));
    match Zram::new(ZramConfig::new(DEFAULT_SIZE)) {
        Ok(_) => Finding::good(
            format!("a disk of {} was created, {limit}", human(DEFAULT_SIZE.0)),
            "A disk of the default size fits; memory is taken only as it fills.",
        ),
        Err(error) => {
            let remedy = match (address_space, host::overcommit()) {
                (Some(_), _) => "raise the limit (ulimit -v unlimited) or ",
                (None, Overcommit::Never) => "sysctl vm.overcommit_memory=0, or ",
                (None, _) => "",
            };
            Finding::fatal(
                format!("{error}, {limit}"),
                "A disk of the default size does not fit.",
                &format!("{remedy}serve a smaller disk (--size)"),
            )
        }
    }
}

fn sockets() -> Finding {
    match try_socket() {
        Ok(folder) => Finding::good(folder, "The default folder for the sockets of servers."),
        Err(error) => Finding::fatal(
            format!("{error:#}"),
            "There is no default folder for the sockets of servers.",
            "set XDG_RUNTIME_DIR to a folder of yours with a short name, or give --unix and --control",
        ),
    }
}

/// Binds a socket in the runtime folder and removes it; returns the folder.
fn try_socket() -> Result<String> {
    let path = RuntimeDir::open()?.socket("doctor");
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()));
    let _ = std::fs::remove_file(&path);
    listener.map(|_| path.parent().unwrap_or(&path).display().to_string())
}

fn memory() -> Finding {
    const MEANING: &str =
        "Compressed pages live in memory; if none is left, the OOM killer may end the process.";
    let (available, group) = (host::available_memory(), host::cgroup_memory_limit());
    let seen = format!(
        "{} available, {}",
        available.map_or("unknown".into(), human),
        group.map_or("no control group limit".into(), |limit| {
            format!("control group limit {}", human(limit))
        })
    );
    let smallest = available.into_iter().chain(group).min();
    if group.is_none() && smallest.is_none_or(|bytes| bytes >= LITTLE_MEMORY) {
        return Finding::good(seen, MEANING);
    }
    let example = smallest.map(|bytes| format!(", for example --mem-limit {}", human(bytes / 2)));
    let remedy = format!("serve with --mem-limit below that{}", example.unwrap_or_default());
    Finding::note(seen, MEANING, &remedy)
}

fn open_files() -> Finding {
    const MEANING: &str = "Each client connection uses one.";
    let Some(limit) = host::limits().open_files else { return Finding::good("no limit", MEANING) };
    let seen = format!("limit {limit}");
    if limit < FEW_FILES {
        return Finding::note(seen, MEANING, &format!("ulimit -n {FEW_FILES}"));
    }
    Finding::good(seen, MEANING)
}
