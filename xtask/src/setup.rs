//! `cargo xtask setup`: installs what the end-to-end tests use besides Rust: NBD clients, QEMU's
//! tools, fio and e2fsprogs.

use std::process::Command;

use anyhow::Result;

use crate::libnbd;

/// A Debian package and how to detect it.
struct Package {
    name: &'static str,
    probe: Probe,
    wanted_for: &'static str,
}

/// A program or module that shows that a package is installed.
enum Probe {
    Program(&'static str),
    PythonModule(&'static str),
}

/// Packages of the programs that tests and benchmarks start.
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

/// Further packages of the experiments in a guest. Only they install these, because they are large.
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

/// The packages of this machine after `setup`.
pub(crate) enum Host {
    /// All packages are installed: no test has a reason to skip.
    Complete,
    /// These packages are missing: tests that need them skip.
    Lacks(Vec<&'static str>),
}

/// Installs missing packages if possible, and otherwise lists them.
pub(crate) fn run() -> Result<Host> {
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

/// Installs the packages of the experiments in a guest if possible, and otherwise lists them.
pub(crate) fn for_guests() -> Result<Host> {
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
    println!("setup: continuing; tests that need them are skipped and listed");
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
        // Debian builds the module for its own interpreter, which may not be the first on PATH.
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
