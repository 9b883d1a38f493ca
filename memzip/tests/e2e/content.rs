//! The content of the tests: real files of this machine, which compress like real data.

use std::io::Read;
use std::path::{Path, PathBuf};

/// One MiB.
pub(crate) const MIB: usize = 1 << 20;

/// Returns `len` bytes of programs and libraries of this machine, the same in every run.
pub(crate) fn programs(len: usize) -> Vec<u8> {
    read_files(&["/usr/bin", "/usr/lib", "/bin", "/lib"], len)
}

/// Returns `len` random bytes, which no codec compresses.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut source = std::fs::File::open("/dev/urandom").expect("Linux has /dev/urandom");
    source.read_exact(&mut bytes).expect("/dev/urandom never ends");
    bytes
}

/// Writes `bytes` to a file and returns its path.
pub(crate) fn save(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("the temporary folder can be written");
    path
}

/// Compares two files. Panics with the offset of the first difference.
pub(crate) fn assert_same(expected: &Path, found: &Path) {
    let expected = std::fs::read(expected).expect("the expected file can be read");
    let found = std::fs::read(found).expect("the found file can be read");
    assert_eq!(expected.len(), found.len(), "the lengths differ");
    if let Some(at) = expected.iter().zip(&found).position(|(a, b)| a != b) {
        panic!(
            "the files differ from byte {at} on: {:#04x} expected, {:#04x} found",
            expected[at], found[at]
        );
    }
}

fn read_files(folders: &[&str], len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut files: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
        for file in files {
            let Ok(file) = std::fs::File::open(file) else { continue };
            let room = len - bytes.len();
            _ = file.take(room as u64).read_to_end(&mut bytes);
            if bytes.len() == len {
                return bytes;
            }
        }
    }
    // A machine with few programs: repeat them.
    assert!(!bytes.is_empty(), "this machine has no programs");
    while bytes.len() < len {
        let again = bytes.len().min(len - bytes.len());
        bytes.extend_from_within(..again);
    }
    bytes
}
