//! The data the guest's writers copy: real files of this machine, one after the other, as a disk.

use super::Missing;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Where files are taken from, and how much at most: programs, libraries and documents, as on a machine in use. The last takes what is left.
const SOURCE_FOLDERS: [(&str, u64); 4] = [
    ("/usr/bin", 256 << 20),
    ("/usr/share", 256 << 20),
    ("/usr/lib", 512 << 20),
    ("/usr", u64::MAX),
];
/// No single file is more of it than this.
const MAX_FILE_LEN: u64 = 32 << 20;

/// Writes a disk of `size` bytes.
pub fn write(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
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

/// Appends files below a folder, in the order of their names, until `max` bytes are there. Returns how many.
fn copy_tree(folder: &Path, disk: &mut impl Write, max: u64) -> Result<u64> {
    let mut taken = 0;
    for path in sorted(folder) {
        if taken == max {
            break;
        }
        // Links would count a file twice.
        let Ok(kind) = std::fs::symlink_metadata(&path) else { continue };
        if kind.is_dir() {
            taken += copy_tree(&path, disk, max - taken)?;
        } else if kind.is_file() {
            taken += copy_file(&path, disk, (max - taken).min(MAX_FILE_LEN))?;
        }
    }
    Ok(taken)
}

/// Appends the start of a file. What cannot be read is left out.
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
    fn a_tree_is_copied_in_the_order_of_names_up_to_a_limit_and_without_links() {
        let folder = std::env::temp_dir().join(format!("xtask-data-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("b")).expect("a folder");
        std::fs::write(folder.join("c"), "three").expect("a file");
        std::fs::write(folder.join("b/x"), "two").expect("a file");
        std::fs::write(folder.join("a"), "one").expect("a file");
        std::os::unix::fs::symlink(folder.join("a"), folder.join("d")).expect("a link");
        let copy = |max| {
            let mut disk = Vec::new();
            let taken = copy_tree(&folder, &mut disk, max).expect("memory can be written");
            assert_eq!(taken, disk.len() as u64);
            String::from_utf8(disk).expect("text")
        };
        let (all, some) = (copy(100), copy(5));
        std::fs::remove_dir_all(&folder).expect("it is ours");
        assert_eq!((all.as_str(), some.as_str()), ("onetwothree", "onetw"));
    }
}
