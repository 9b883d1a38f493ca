//! `cargo xtask setup`: what the end-to-end tests drive that Rust cannot bring: NBD clients, QEMU's tools, fio, e2fsprogs.

use crate::{libnbd, shell};
use anyhow::Result;
use std::process::Command;

/// One Debian package, and how to see that it is there.
struct Package {
    name: &'static str,
    probe: Probe,
    wanted_for: &'static str,
}

/// How the presence of a package shows.
enum Probe {
    Program(&'static str),
    PythonModule(&'static str),
}

/// Every package a test or a benchmark may start.
const PACKAGES: [Package; 12] = [
    Package { name: "gcc", probe: Probe::Program("cc"), wanted_for: "building the C codecs" },
    Package { name: "g++", probe: Probe::Program("c++"), wanted_for: "building libFuzzer" },
    Package {
        name: "libnbd-bin",
        probe: Probe::Program("nbdcopy"),
        wanted_for: "end-to-end tests",
    },
    Package {
        name: "python3-libnbd",
        probe: Probe::PythonModule("nbd"),
        wanted_for: "end-to-end tests (nbdsh)",
    },
    Package {
        name: "qemu-utils",
        probe: Probe::Program("qemu-io"),
        wanted_for: "end-to-end tests",
    },
    Package { name: "fio", probe: Probe::Program("fio"), wanted_for: "end-to-end tests" },
    Package {
        name: "e2fsprogs",
        probe: Probe::Program("mke2fs"),
        wanted_for: "end-to-end tests (ext4)",
    },
    Package {
        name: "curl",
        probe: Probe::Program("curl"),
        wanted_for: "end-to-end tests (control socket)",
    },
    Package { name: "nbdkit", probe: Probe::Program("nbdkit"), wanted_for: "benchmarks (a peer)" },
    Package { name: "make", probe: Probe::Program("make"), wanted_for: "building a newer libnbd" },
    Package {
        name: "pkg-config",
        probe: Probe::Program("pkg-config"),
        wanted_for: "building a newer libnbd",
    },
    Package {
        name: "python3-dev",
        probe: Probe::Program("python3-config"),
        wanted_for: "building a newer libnbd",
    },
];

/// What the experiments in a guest need besides; a large package, so that only they ask for it.
const GUEST_PACKAGES: [Package; 2] = [
    Package {
        name: "qemu-system-x86",
        probe: Probe::Program("qemu-system-x86_64"),
        wanted_for: "experiments in a guest",
    },
    Package {
        name: "xz-utils",
        probe: Probe::Program("xz"),
        wanted_for: "experiments in a guest (kernel modules)",
    },
];

/// What `setup` left behind.
pub enum Host {
    /// Everything is there: no test has a reason to skip.
    Complete,
    /// These packages are missing; tests that need them skip and say so.
    Lacks(Vec<&'static str>),
}

/// Installs what is missing when that is possible, else says what is missing and goes on.
pub fn run() -> Result<Host> {
    let host = ensure(&PACKAGES)?;
    if libnbd::ensure() {
        return Ok(host);
    }
    println!("setup: MISSING {} (end-to-end tests of extended headers)", libnbd::NAME);
    Ok(match host {
        Host::Complete => Host::Lacks(vec![libnbd::NAME]),
        Host::Lacks(missing) => Host::Lacks([missing, vec![libnbd::NAME]].concat()),
    })
}

/// The same for the experiments in a guest.
pub fn for_guests() -> Result<Host> {
    ensure(&GUEST_PACKAGES)
}

fn ensure(packages: &'static [Package]) -> Result<Host> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(Host::Complete);
    }
    let can_install = shell::is_root() && shell::find_program("apt-get").is_some();
    if can_install && install(&missing).is_ok() {
        println!("setup: installed {}", names(&missing).join(" "));
    }
    let missing = self::missing(packages);
    if missing.is_empty() {
        return Ok(Host::Complete);
    }
    for package in &missing {
        println!("setup: MISSING {} ({})", package.name, package.wanted_for);
    }
    println!("setup: remedy: sudo apt-get install {}", names(&missing).join(" "));
    println!("setup: going on without; what needs them is skipped and listed");
    Ok(Host::Lacks(names(&missing)))
}

fn names(packages: &[&'static Package]) -> Vec<&'static str> {
    packages.iter().map(|package| package.name).collect()
}

fn missing(packages: &'static [Package]) -> Vec<&'static Package> {
    packages.iter().filter(|package| !is_present(&package.probe)).collect()
}

fn is_present(probe: &Probe) -> bool {
    match probe {
        Probe::Program(name) => shell::find_program(name).is_some(),
        // Debian builds the module for its own interpreter, which need not be the first python3 on PATH.
        Probe::PythonModule(name) => shell::succeeds(
            Command::new("/usr/bin/python3").arg("-c").arg(format!("import {name}")),
        ),
    }
}

fn install(packages: &[&'static Package]) -> Result<()> {
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    shell::run(&mut update)?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(names(packages));
    shell::run(&mut install)
}
