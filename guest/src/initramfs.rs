//! The guest's file system: busybox, mke2fs with its libraries, kernel modules, and the init
//! script.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::modules;
use super::packages::{self, Packages};

/// The init script: it mounts file systems, loads modules and runs a scenario.
const INIT: &str = include_str!("init.sh");
/// The scenarios by name.
const SCENARIOS: [(&str, &str); 4] = [
    ("e3", include_str!("e3.sh")),
    ("swap", include_str!("swap.sh")),
    ("ext4", include_str!("ext4.sh")),
    ("memory_failure", include_str!("memory_failure.sh")),
];
/// Drivers and file systems that are loaded with their dependencies. A kernel may have them built
/// in.
const MODULES: [&str; 7] =
    ["virtio_pci", "virtio_blk", "crc16", "crc32c_generic", "ext4", "lz4_compress", "zram"];
/// Codecs of the crypto layer, which zram used before 6.12.
const CRYPTO: [&str; 2] = ["lz4", "zstd"];
/// Libraries of mke2fs.
const LIBRARIES: [&str; 6] = [
    "libext2fs.so.2",
    "libe2p.so.2",
    "libcom_err.so.2",
    "libblkid.so.1",
    "libuuid.so.1",
    "libc.so.6",
];

/// Builds an initramfs from unpacked packages and the programs of the guest, each with its name
/// there.
pub(crate) fn build(packages: &Packages, programs: &[(&str, PathBuf)]) -> Result<Vec<u8>> {
    // The folders, the scripts and the programs of this workspace.
    let Packages { root, kernel } = packages;
    let mut archive = Archive::default();
    let folders = [
        "bin",
        "sbin",
        "dev",
        "etc",
        "lib",
        "lib/x86_64-linux-gnu",
        "lib64",
        "mnt",
        "modules",
        "proc",
    ];
    folders
        .into_iter()
        .chain(["scenarios", "sys", "tmp"])
        .for_each(|folder| archive.folder(folder));
    archive.device("dev/console", 5, 1);
    archive.program("init", INIT.as_bytes());
    for (name, script) in SCENARIOS {
        archive.file(&format!("scenarios/{name}.sh"), script.as_bytes());
    }
    for (name, program) in programs {
        archive.program(&format!("bin/{name}"), &read(program)?);
    }
    // busybox, and mke2fs with its libraries.
    archive.program("bin/busybox", &read(&root.join("bin/busybox"))?);
    archive.program("sbin/mke2fs", &read(&root.join("sbin/mke2fs"))?);
    archive.file("etc/mke2fs.conf", &read(&root.join("etc/mke2fs.conf"))?);
    let loader = "ld-linux-x86-64.so.2";
    archive.program(&format!("lib64/{loader}"), &library(root, loader)?);
    for name in LIBRARIES {
        archive.program(&format!("lib/x86_64-linux-gnu/{name}"), &library(root, name)?);
    }
    // The modules, and the order in which to load them.
    let wanted: Vec<&str> = MODULES.into_iter().chain(CRYPTO).collect();
    let found = modules::collect(&root.join("lib/modules").join(kernel), &wanted)?;
    let mut order = String::new();
    for module in &found {
        archive.file(&format!("modules/{}.ko", module.name), &module.code);
        order += &format!("{}\n", module.name);
    }
    archive.file("modules/order", order.as_bytes());
    Ok(archive.finish())
}

fn library(root: &Path, name: &str) -> Result<Vec<u8>> {
    match packages::library(root, name) {
        Some(path) => read(&path),
        None => bail!("the guest's packages have no {name}"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
