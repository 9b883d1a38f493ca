//! Pages from files: text and machine code.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Kind, thin};
use crate::{PAGE_SIZE, Page};

/// Most pages of one file, so that no large file dominates the set: 4 MiB.
const MAX_PAGES_PER_FILE: usize = 1024;

/// Deepest folder that is walked. The limit also ends a walk in a cycle of bind mounts.
const MAX_DEPTH: u32 = 24;

/// Folders with text on a machine with Rust: documentation, headers, scripts, crate sources.
const TEXT_ROOTS: [&str; 6] =
    ["/usr/share", "/usr/include", "/usr/lib/python3", "/usr/local", "/usr/src", "/etc"];

/// Folders with machine code.
const CODE_ROOTS: [&str; 5] = ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/local"];

/// Returns every file of this kind below `root`, sorted by path.
///
/// Skips symbolic links, hidden folders and `target` folders. [`Kind::Memory`] has no files.
#[must_use]
pub fn files_below(root: &Path, kind: Kind) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(root, MAX_DEPTH, &mut found);
    found.sort();
    found.retain(|path| is_of_kind(path, kind));
    found
}

/// Collects at most `wanted` pages of this kind, at most 4 MiB of each file. The order of the
/// files mixes folders and is the same in each run.
pub(super) fn collect(kind: Kind, wanted: usize, seen: &mut HashSet<u64>) -> Vec<Page> {
    let mut paths = Vec::new();
    for root in roots(kind) {
        walk(&root, MAX_DEPTH, &mut paths);
    }
    paths.sort_by_cached_key(|path| path_hash(path));
    let mut pages = Vec::new();
    for path in paths {
        if pages.len() >= wanted {
            break;
        }
        if is_of_kind(&path, kind) {
            take(&path, wanted, seen, &mut pages);
        }
    }
    pages
}

fn roots(kind: Kind) -> Vec<PathBuf> {
    let fixed: &[&str] = if kind == Kind::Text { &TEXT_ROOTS } else { &CODE_ROOTS };
    let mut roots: Vec<PathBuf> = fixed.iter().map(PathBuf::from).collect();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let rustup =
        std::env::var_os("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from);
    match kind {
        Kind::Text => roots.extend([cargo.join("registry/src"), rustup.join("toolchains")]),
        Kind::Binaries | Kind::Memory => roots.push(rustup.join("toolchains")),
    }
    roots
}

fn walk(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().first() == Some(&b'.');
        if kind.is_file() {
            found.push(entry.path());
        } else if kind.is_dir() && depth > 0 && !hidden && name != "target" {
            walk(&entry.path(), depth - 1, found);
        }
    }
}

/// Returns whether the first page is of this kind: ELF magic for code, no zero byte and mostly
/// printable characters for text.
fn is_of_kind(path: &Path, kind: Kind) -> bool {
    let mut head = [0; PAGE_SIZE];
    if !File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok()) {
        return false;
    }
    match kind {
        Kind::Text => is_text(&head),
        Kind::Binaries => head.starts_with(b"\x7fELF"),
        Kind::Memory => false,
    }
}

fn is_text(head: &[u8]) -> bool {
    let plain =
        head.iter().filter(|&&byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')).count();
    !head.contains(&0) && plain * 10 >= head.len() * 7
}

fn take(path: &Path, wanted: usize, seen: &mut HashSet<u64>, pages: &mut Vec<Page>) {
    let Ok(file) = File::open(path) else { return };
    let Ok(meta) = file.metadata() else { return };
    let total = usize::try_from(meta.len()).unwrap_or(0) / PAGE_SIZE;
    for index in thin::runs(total, MAX_PAGES_PER_FILE).into_iter().flatten() {
        let mut page = Page::zeroed();
        if pages.len() >= wanted
            || file.read_exact_at(&mut page[..], (index * PAGE_SIZE) as u64).is_err()
        {
            return;
        }
        if !page.is_same_filled() && seen.insert(page.fingerprint()) {
            pages.push(page);
        }
    }
}

/// Hashes a path with FNV-1a. Sorting by the hash mixes the folders.
fn path_hash(path: &Path) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    path.as_os_str().as_encoded_bytes().iter().fold(0xCBF2_9CE4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_code() {
        assert!(is_text(include_bytes!("files.rs")));
        let exe = std::env::current_exe().expect("tests run from a file");
        assert!(is_of_kind(&exe, Kind::Binaries));
        assert!(!is_of_kind(&exe, Kind::Text));
    }

    #[test]
    fn a_set_is_repeatable_distinct_and_bounded() {
        let first = collect(Kind::Text, 100, &mut HashSet::new());
        let second = collect(Kind::Text, 100, &mut HashSet::new());
        assert_eq!(first, second);
        assert!(first.len() <= 100);
        let distinct: HashSet<u64> = first.iter().map(Page::fingerprint).collect();
        assert_eq!(distinct.len(), first.len());
    }
}
