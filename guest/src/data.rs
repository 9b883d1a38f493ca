//! The source disk of the guest's writers: real files of this machine, one after the other.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::missing::Missing;

/// The folders of the files, and the most bytes of each: programs, libraries and documents. The
/// last fills the rest.
const SOURCE_FOLDERS: [(&str, u64); 4] = [
    ("/usr/bin", 256 << 20),
    ("/usr/share", 256 << 20),
    ("/usr/lib", 512 << 20),
    ("/usr", u64::MAX),
];
/// Most bytes of a single file.
const MAX_FILE_LEN: u64 = 32 << 20;

/// Writes a source disk of `size` bytes.
pub(crate) fn write(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut disk = BufWriter::with_capacity(1 << 20, file);
    let mut left = size;
    for (place, max) in SOURCE_FOLDERS {
        let taken = copy_tree(Path::new(place), &mut disk, max.min(left))?;
        left -= taken;
    }
    disk.flush().with_context(|| format!("cannot write {}", path.display()))?;
    if left > 0 {
        bail!(Missing(format!(
            "there are only {} MiB of real files below /usr, not {}",
            (size - left) >> 20,
            size >> 20
        )));
    }
    Ok(())
}

/// Appends files below a folder, sorted by name, up to `max` bytes. Returns the bytes appended.
fn copy_tree(folder: &Path, disk: &mut impl Write, max: u64) -> Result<u64> {
    let mut taken = 0;
    for path in sorted(folder) {
        if taken == max {
            break;
        }
        // Skip links, which would repeat files.
        let Ok(kind) = std::fs::symlink_metadata(&path) else { continue };
        if kind.is_dir() {
            taken += copy_tree(&path, disk, max - taken)?;
        } else if kind.is_file() {
            taken += copy_file(&path, disk, (max - taken).min(MAX_FILE_LEN))?;
        }
    }
    Ok(taken)
}

/// Appends the start of a file. Skips a file that cannot be opened.
fn copy_file(path: &Path, disk: &mut impl Write, max: u64) -> Result<u64> {
    let Ok(file) = File::open(path) else { return Ok(0) };
    std::io::copy(&mut file.take(max), disk)
        .with_context(|| format!("cannot copy {}", path.display()))
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied_sorted_and_without_links() {
        let folder = std::env::temp_dir().join(format!("xtask-data-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("b")).expect("a folder");
        std::fs::write(folder.join("c"), "three").expect("a file");
        std::fs::write(folder.join("b/x"), "two").expect("a file");
        std::fs::write(folder.join("a"), "one").expect("a file");
        std::os::unix::fs::symlink(folder.join("a"), folder.join("d")).expect("a link");
        let copy = |max| {
            let mut disk = Vec::new();
            let taken = copy_tree(&folder, &mut disk, max).expect("writing to memory succeeds");
            assert_eq!(taken, disk.len() as u64);
            String::from_utf8(disk).expect("text")
        };
        let (all, some) = (copy(100), copy(5));
        std::fs::remove_dir_all(&folder).expect("the folder belongs to this test");
        assert_eq!((all.as_str(), some.as_str()), ("onetwothree", "onetw"));
    }
}
