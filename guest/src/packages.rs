//! The guest's software: a kernel with its modules, busybox and mke2fs, unpacked but not installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::Apt;
use super::missing::Missing;

/// The metapackage of the small kernel for guests, with virtio and ext4.
const KERNEL: &str = "linux-image-cloud-amd64";
/// busybox, and mke2fs with its libraries.
const OTHERS: [&str; 7] =
    ["busybox-static", "e2fsprogs", "libext2fs2", "libcom-err2", "libblkid1", "libuuid1", "libc6"];
/// File that is written last: a folder with it is complete.
const STAMP: &str = "complete";

/// The unpacked packages.
pub(crate) struct Packages {
    /// The folder that corresponds to the root of a system.
    pub root: PathBuf,
    /// The kernel's version, as in `uname -r`.
    pub kernel: String,
}

/// Returns the packages, and unpacks them into `folder` if it is not complete.
pub(crate) fn unpacked(folder: &Path) -> Result<Packages> {
    let root = folder.join("root");
    if !root.join(STAMP).exists() {
        unpack(folder, &root)?;
    }
    let kernel = kernel_in(&root.join("boot"))?;
    let kernel = kernel.ok_or_else(|| Missing(format!("{KERNEL} contains no kernel")))?;
    Ok(Packages { root, kernel })
}

fn unpack(folder: &Path, root: &Path) -> Result<()> {
    let debs = folder.join("debs");
    for fresh in [root, &debs] {
        if fresh.exists() {
            std::fs::remove_dir_all(fresh)
                .with_context(|| format!("cannot remove {}", fresh.display()))?;
        }
        std::fs::create_dir_all(fresh)
            .with_context(|| format!("cannot create {}", fresh.display()))?;
    }
    let apt = Apt::open(&folder.join("apt"))?;
    let wanted: Vec<String> = std::iter::once(apt.resolve_metapackage(KERNEL)?)
        .chain(OTHERS.map(str::to_owned))
        .collect();
    apt.download(&wanted, &debs)?;
    for deb in files(&debs)? {
        shell::run(Command::new("dpkg").arg("-x").arg(&deb).arg(root))?;
    }
    std::fs::write(root.join(STAMP), "")
        .context("cannot write the file that marks the packages as complete")
}

/// Returns the path of a shared library in the packages.
pub(crate) fn library(root: &Path, name: &str) -> Option<PathBuf> {
    ["lib", "usr/lib"]
        .iter()
        .map(|lib| root.join(lib).join("x86_64-linux-gnu").join(name))
        .find(|path| path.exists())
}

fn kernel_in(boot: &Path) -> Result<Option<String>> {
    let names =
        files(boot)?.into_iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
    Ok(names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned)).next())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let listed =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
