//! libnbd 1.18 or newer, whose clients use extended headers.
//!
//! Debian's stable release may have an older version. Then the source of a later release, from the
//! same archive, is built below `target`. Nothing is installed on the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Name in the list of missing packages.
pub(crate) const NAME: &str = "libnbd-1.18-or-newer";

/// The source of a later release.
const ARCHIVE: &str =
    "http://deb.debian.org/debian/pool/main/libn/libnbd/libnbd_1.22.2.orig.tar.gz";
const SHA256: &str = "bdc403af00fd1c9b5ed20503765496a81c2d0197af550765af3dee196e8519ca";
/// Folder in the archive.
const FOLDER: &str = "libnbd-1.22.2";

/// Debian's own Python, which has the headers of `python3-dev`.
const PYTHON: &str = "/usr/bin/python3";

/// Builds libnbd if it is missing. Returns whether the tests find a version that is new enough.
pub(crate) fn ensure() -> bool {
    if is_present() {
        return true;
    }
    let built = build();
    if let Err(error) = &built {
        println!("setup: libnbd was not built: {error:#}");
    }
    built.is_ok() && is_present()
}

/// Returns the folder where the tests look for it.
fn place() -> PathBuf {
    shell::root().join("target/libnbd")
}

fn is_present() -> bool {
    let python = place().join("python");
    let script = "import nbd; v = nbd.NBD().get_version().split('.'); assert (int(v[0]), int(v[1])) >= (1, 18)";
    let path = format!("{}:{}", python.display(), python.join(".libs").display());
    shell::succeeds(Command::new(PYTHON).args(["-c", script]).env("PYTHONPATH", path))
}

fn build() -> Result<()> {
    // The build needs these tools and Python's headers.
    for tool in ["curl", "sha256sum", "tar", "make", "cc", "pkg-config"] {
        if shell::find_program(tool).is_none() {
            bail!("{tool} is missing");
        }
    }
    let include =
        "import os, sysconfig; assert os.path.exists(sysconfig.get_path('include') + '/Python.h')";
    if !shell::succeeds(Command::new(PYTHON).args(["-c", include])) {
        bail!("python3-dev is missing");
    }
    // Build only the library and its Python module.
    let work = shell::root().join("target").join(FOLDER);
    fetch(&work)?;
    let without = ["ocaml", "golang", "rust", "fuse", "ublk", "static"]
        .map(|part| format!("--disable-{part}"));
    let plain = ["gnutls", "libxml2", "bash-completions"].map(|part| format!("--without-{part}"));
    let mut configure = Command::new("./configure");
    configure
        .args(without)
        .args(plain)
        .args(["--quiet", "--enable-python"])
        .arg(format!("PYTHON={PYTHON}"));
    shell::run(configure.current_dir(&work))?;
    for (folder, target) in
        [("common/utils", "libutils.la"), ("lib", "libnbd.la"), ("python", "all")]
    {
        shell::run(
            Command::new("make").args(["--quiet", "-C", folder, target]).current_dir(&work),
        )?;
    }
    // Link the result last, so that an interrupted build is not found.
    let _ = std::fs::remove_file(place());
    std::os::unix::fs::symlink(FOLDER, place()).context("cannot link target/libnbd")
}

/// Downloads the source, checks its SHA-256 and unpacks it.
fn fetch(work: &Path) -> Result<()> {
    let archive = work.with_extension("tar.gz");
    shell::run(
        Command::new("curl").args(["-sSfL", "--max-time", "120", "-o"]).arg(&archive).arg(ARCHIVE),
    )?;
    let sums = work.with_extension("sha256");
    std::fs::write(&sums, format!("{SHA256}  {}\n", archive.display()))
        .context("cannot write a checksum")?;
    shell::run(Command::new("sha256sum").args(["--check", "--quiet"]).arg(&sums))?;
    let target = shell::root().join("target");
    shell::run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(target))
}
