//! The program in a guest that fills memory or a file system and verifies every byte.
//!
//! Lines for the host begin with `@@`. A page's content follows from its number and its generation,
//! so no copy is kept.

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Size of a page. Units: bytes.
const PAGE: usize = 4096;
/// Length of the largest file. Units: pages.
const MAX_FILE_PAGES: u64 = 1024;

/// A result whose error is a sentence.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["memory", percent] => number(percent).and_then(memory),
        ["files", folder, rounds, mib] => {
            number(rounds).and_then(|rounds| files(Path::new(folder), rounds, number(mib)?))
        }
        _ => Err("usage: guest-worker memory PERCENT | files FOLDER ROUNDS MIB".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("@@ failed {error}");
            ExitCode::FAILURE
        }
    }
}

/// Fills more memory than the machine has, changes every third page, and verifies all of it twice.
fn memory(percent: u64) -> Outcome {
    let total = memory_total()?;
    let pages = usize::try_from(total * percent / 100).map_err(|_| "too much memory")? / PAGE;
    println!("@@ memory {} KiB, filling {} KiB", total >> 10, (pages * PAGE) >> 10);
    let mut memory = vec![0u8; pages * PAGE];
    for (page, bytes) in memory.chunks_exact_mut(PAGE).enumerate() {
        fill(bytes, page as u64, 1);
    }
    println!("@@ wrote {pages} pages");
    verify_memory(&memory, |_| 1)?;
    println!("@@ full");
    wait_for_host()?;
    for (page, bytes) in memory.chunks_exact_mut(PAGE).enumerate().step_by(3) {
        fill(bytes, page as u64, 2);
    }
    println!("@@ changed {} pages", pages.div_ceil(3));
    verify_memory(&memory, |page| if page % 3 == 0 { 2 } else { 1 })?;
    println!("@@ verified {pages} pages twice");
    Ok(())
}

/// Verifies the pages with a stride, so that readahead does not help.
fn verify_memory(memory: &[u8], generation: impl Fn(usize) -> u32) -> Outcome {
    const STRIDE: usize = 251;
    let pages = memory.len() / PAGE;
    for first in 0..STRIDE.min(pages) {
        for page in (first..pages).step_by(STRIDE) {
            let bytes = &memory[page * PAGE..][..PAGE];
            verify(bytes, page as u64, generation(page))
                .map_err(|error| format!("memory: {error}"))?;
        }
    }
    Ok(())
}

/// A file and the generation of each of its pages.
struct Written {
    path: PathBuf,
    id: u64,
    pages: Vec<u32>,
}

/// Writes, changes, verifies and deletes files for `rounds` rounds, with at most `mib` MiB of
/// files.
fn files(folder: &Path, rounds: u64, mib: u64) -> Outcome {
    let max_pages = (mib << 20) / PAGE as u64;
    let (mut live, mut next, mut verified): (Vec<Written>, u64, u64) = (Vec::new(), 0, 0);
    for round in 1..=rounds {
        // Fill the file system with files of random lengths.
        let mut there: u64 = live.iter().map(|file| file.pages.len() as u64).sum();
        while there < max_pages {
            let file =
                create(folder, next, (mix(next) % MAX_FILE_PAGES + 1).min(max_pages - there))?;
            there += file.pages.len() as u64;
            next += 1;
            live.push(file);
        }
        verified += verify_all(&live)?;
        for file in live.iter_mut().step_by(2) {
            change(file, round)?;
        }
        verified += verify_all(&live)?;
        // Delete every second file, alternating between rounds; the file system discards their
        // blocks.
        let mut place = round;
        let mut gone = Vec::new();
        live.retain(|file| {
            place += 1;
            let stays = place % 2 == 0;
            if !stays {
                gone.push(file.path.clone());
            }
            stays
        });
        gone.iter().try_for_each(fs::remove_file).map_err(text)?;
        sync(folder)?;
        println!(
            "@@ round {round}: {} files deleted, {} left, {verified} pages verified so far",
            gone.len(),
            live.len()
        );
    }
    verified += verify_all(&live)?;
    println!("@@ verified {verified} pages in {next} files");
    Ok(())
}

fn create(folder: &Path, id: u64, pages: u64) -> Result<Written, String> {
    let path = folder.join(id.to_string());
    let mut file = File::create(&path).map_err(text)?;
    let mut bytes = [0; PAGE];
    for page in 0..pages {
        fill(&mut bytes, name(id, page), 1);
        file.write_all(&bytes).map_err(text)?;
    }
    file.sync_all().map_err(text)?;
    Ok(Written { path, id, pages: vec![1; usize::try_from(pages).map_err(text)?] })
}

/// Overwrites every fifth page in place.
fn change(written: &mut Written, round: u64) -> Outcome {
    let file = OpenOptions::new().write(true).open(&written.path).map_err(text)?;
    let mut bytes = [0; PAGE];
    let first = usize::try_from(round % 5).map_err(text)?;
    for (page, generation) in written.pages.iter_mut().enumerate().skip(first).step_by(5) {
        *generation += 1;
        fill(&mut bytes, name(written.id, page as u64), *generation);
        file.write_all_at(&bytes, (page * PAGE) as u64).map_err(text)?;
    }
    file.sync_all().map_err(text)
}

/// Verifies all files from the disk, not from the page cache. Returns the number of their pages.
fn verify_all(live: &[Written]) -> Result<u64, String> {
    fs::write("/proc/sys/vm/drop_caches", "3").map_err(text)?;
    let mut bytes = [0; PAGE];
    for written in live {
        let file = File::open(&written.path).map_err(text)?;
        let length = file.metadata().map_err(text)?.len();
        if length != (written.pages.len() * PAGE) as u64 {
            return Err(format!(
                "{}: {length} bytes instead of {} pages",
                written.path.display(),
                written.pages.len()
            ));
        }
        let mut reader = BufReader::with_capacity(64 * PAGE, file);
        for (page, &generation) in written.pages.iter().enumerate() {
            reader.read_exact(&mut bytes).map_err(text)?;
            verify(&bytes, name(written.id, page as u64), generation)
                .map_err(|error| format!("{}: {error}", written.path.display()))?;
        }
    }
    Ok(live.iter().map(|file| file.pages.len() as u64).sum())
}

fn sync(folder: &Path) -> Outcome {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(text)
}

/// Returns the number of a page of a file, which is unique.
fn name(file: u64, page: u64) -> u64 {
    file * MAX_FILE_PAGES + page
}

/// Fills a page. A third of it is random; one page of sixteen is a single repeated word.
fn fill(page: &mut [u8], number: u64, generation: u32) {
    let seed = mix(number.wrapping_mul(1 << 20) ^ u64::from(generation));
    let random = if seed.is_multiple_of(16) { 0 } else { PAGE / 24 };
    let mut state = seed;
    for (index, word) in page.chunks_exact_mut(8).enumerate() {
        if index < random {
            state = mix(state);
        } else {
            state = seed;
        }
        word.copy_from_slice(&state.to_le_bytes());
    }
}

fn verify(page: &[u8], number: u64, generation: u32) -> Outcome {
    let mut wanted = [0; PAGE];
    fill(&mut wanted, number, generation);
    match page.iter().zip(&wanted).position(|(is, wanted)| is != wanted) {
        None => Ok(()),
        Some(at) => Err(format!("page {number} of generation {generation} differs at byte {at}")),
    }
}

/// Mixes the bits of a number with the finalizer of splitmix64.
fn mix(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Returns the machine's memory in bytes.
fn memory_total() -> Result<u64, String> {
    let info = fs::read_to_string("/proc/meminfo").map_err(text)?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:")).ok_or("no MemTotal")?;
    Ok(number(line.split_whitespace().next().unwrap_or_default())? << 10)
}

/// Waits until the host writes a line.
fn wait_for_host() -> Outcome {
    let console = File::open("/dev/console").map_err(text)?;
    io::BufReader::new(console).read_line(&mut String::new()).map_err(text).map(drop)
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word} is not a number"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_differ_by_number_and_generation() {
        let page = |number, generation| {
            let mut bytes = [0; PAGE];
            fill(&mut bytes, number, generation);
            bytes
        };
        for (number, generation) in [(7, 2), (8, 1), (7 << 20, 1)] {
            assert!(verify(&page(7, 1), number, generation).is_err(), "{number} {generation}");
        }
        assert_eq!(verify(&page(7, 1), 7, 1), Ok(()));
    }

    #[test]
    fn one_changed_byte_is_found() {
        let mut bytes = [0; PAGE];
        fill(&mut bytes, 3, 1);
        bytes[4000] ^= 1;
        assert!(verify(&bytes, 3, 1).is_err_and(|error| error.contains("byte 4000")));
    }
}
