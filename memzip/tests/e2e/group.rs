//! A control group for a test, with a memory limit and a pressure file.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Two folders if version 1 has the limit and version 2 the pressure, or one folder if version 2
/// has both. Removed when dropped.
pub(crate) struct Group {
    folders: Vec<PathBuf>,
}

impl Group {
    /// Creates a group with a memory limit of this many bytes.
    ///
    /// # Errors
    /// The reason why this machine cannot have one.
    pub(crate) fn new(limit: u64) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("memzip-e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let mut group = Self { folders: Vec::new() };
        let unified = mount(&mounts, |kind, _| kind == "cgroup2")
            .ok_or("no version 2 control groups are mounted")?;
        let unified = group.make(&unified.join(&name))?;
        if !unified.join("memory.pressure").exists() {
            return Err("the kernel keeps no memory pressure for control groups".to_owned());
        }
        let (folder, file) = if unified.join("memory.max").exists() {
            (unified, "memory.max")
        } else {
            let has_memory = |kind: &str, options: &str| {
                kind == "cgroup" && options.split(',').any(|o| o == "memory")
            };
            let folder =
                mount(&mounts, has_memory).ok_or("no control group here can limit memory")?;
            (group.make(&folder.join(&name))?, "memory.limit_in_bytes")
        };
        fs::write(folder.join(file), limit.to_string())
            .map_err(|error| format!("cannot set a limit: {error}"))?;
        Ok(group)
    }

    fn make(&mut self, folder: &Path) -> Result<PathBuf, String> {
        fs::create_dir(folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        self.folders.push(folder.to_path_buf());
        Ok(folder.to_path_buf())
    }

    /// Returns the path of the group's pressure file.
    pub(crate) fn pressure_file(&self) -> PathBuf {
        self.folders[0].join("memory.pressure")
    }

    /// Returns a command that joins the group and then becomes `program`, with the same process
    /// number.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let enter = "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\" || exit 1; shift; done; shift; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", enter, "sh"]).args(&self.folders).arg("--").arg(program);
        command
    }

    /// Moves a process into the group.
    pub(crate) fn add_process(&self, pid: u32) {
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), pid.to_string()).expect("a writable group");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Killed processes take a while to leave the group.
            for _ in 0..100 {
                match fs::remove_dir(folder) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// Returns the mount point of the first mount with the wanted kind and options.
fn mount(mounts: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        wanted(kind, options).then(|| before.split(' ').nth(4).map(PathBuf::from))?
    })
}
