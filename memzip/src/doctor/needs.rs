//! Requirements of memzip, each checked by trying it.

use std::os::unix::net::UnixListener;

use anyhow::{Context, Result};
use block::Bytes;
use sys::host::{self, Overcommit};
use zram::{Zram, ZramConfig};

use super::finding::Finding;
use crate::cli::DEFAULT_SIZE;
use crate::runtime_dir::RuntimeDir;
use crate::sizes::human;

/// Available memory below which a note is printed. Units: bytes.
const LITTLE_MEMORY: u64 = 256 << 20;
/// Limit of open files below which a note is printed: each client connection uses one.
const FEW_FILES: u64 = 1024;

/// Runs all checks of requirements.
pub(super) fn all() -> Vec<Finding> {
    vec![address_space(), sockets(), memory(), open_files()]
}

fn address_space() -> Finding {
    const NAME: &str = "address space";
    let limits = host::limits();
    let limit = limits
        .address_space
        .map_or("no limit".to_owned(), |bytes| format!("limit {}", human(bytes)));
    let size = human(DEFAULT_SIZE.0);
    match Zram::new(ZramConfig::new(Bytes(DEFAULT_SIZE.0))) {
        Ok(_) => Finding::good(
            NAME,
            format!("a disk of {size} was created, {limit}"),
            "A disk of the default size fits; memory is taken only as it fills.",
        ),
        Err(error) => {
            let remedy = match (limits.address_space, host::overcommit()) {
                (Some(_), _) => {
                    "raise the limit (ulimit -v unlimited) or serve a smaller disk (--size)"
                        .to_owned()
                }
                (None, Overcommit::Never) => {
                    "sysctl vm.overcommit_memory=0, or serve a smaller disk (--size)".to_owned()
                }
                (None, _) => "serve a smaller disk (--size)".to_owned(),
            };
            Finding::fatal(
                NAME,
                format!("{error}, {limit}"),
                "A disk of the default size does not fit.",
                remedy,
            )
        }
    }
}

fn sockets() -> Finding {
    const NAME: &str = "unix sockets";
    match try_socket() {
        Ok(folder) => Finding::good(NAME, folder, "The default folder for the sockets of servers."),
        Err(error) => Finding::fatal(
            NAME,
            format!("{error:#}"),
            "There is no default folder for the sockets of servers.",
            "set XDG_RUNTIME_DIR to a folder of yours with a short name, or give --unix and --control",
        ),
    }
}

/// Binds a socket in the runtime folder and removes it; returns the folder.
fn try_socket() -> Result<String> {
    let dir = RuntimeDir::open()?;
    let path = dir.path().join(format!("doctor-{}.sock", std::process::id()));
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()));
    let _ = std::fs::remove_file(&path);
    listener.map(|_| dir.path().display().to_string())
}

fn memory() -> Finding {
    const NAME: &str = "memory";
    const MEANING: &str =
        "Compressed pages live in memory; if none is left, the OOM killer may end the process.";
    let group = host::cgroup_memory_limit();
    let available = host::available_memory();
    let seen = format!(
        "{} available, {}",
        available.map_or("unknown".to_owned(), human),
        group.map_or("no control group limit".to_owned(), |limit| format!(
            "control group limit {}",
            human(limit)
        ))
    );
    let smallest = available.into_iter().chain(group).min();
    if group.is_some() || smallest.is_some_and(|bytes| bytes < LITTLE_MEMORY) {
        let below = smallest.map_or_else(String::new, |bytes| {
            format!(", for example --mem-limit {}", human(bytes / 2))
        });
        return Finding::note(
            NAME,
            seen,
            MEANING,
            format!("serve with --mem-limit below that{below}"),
        );
    }
    Finding::good(NAME, seen, MEANING)
}

fn open_files() -> Finding {
    const NAME: &str = "open files";
    const MEANING: &str = "Each client connection uses one.";
    match host::limits().open_files {
        Some(limit) if limit < FEW_FILES => {
            Finding::note(NAME, format!("limit {limit}"), MEANING, format!("ulimit -n {FEW_FILES}"))
        }
        Some(limit) => Finding::good(NAME, format!("limit {limit}"), MEANING),
        None => Finding::good(NAME, "no limit", MEANING),
    }
}
