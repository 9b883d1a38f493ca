//! Pages of running programs: their resident anonymous memory, read from `/proc/PID/mem`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::{programs, thin};
use crate::{PAGE_SIZE, Page};

/// Bit 63 of a `/proc/PID/pagemap` word: the page is present.
const PRESENT: u64 = 1 << 63;

/// Collects pages of every program that runs on this machine, about the same share of each.
/// Returns them with one sentence for each program that does not run.
pub(super) fn collect(
    wanted: usize,
    seen: &mut HashSet<u64>,
    text: &[Page],
    progress: &mut dyn FnMut(&str),
) -> (Vec<Page>, Vec<String>) {
    let (mut pages, mut notes) = (Vec::new(), Vec::new());
    for (index, (name, start)) in programs::PROGRAMS.iter().enumerate() {
        let share = (wanted - pages.len()) / (programs::PROGRAMS.len() - index);
        let before = pages.len();
        let taken = start(text).and_then(|program| {
            take(program.pid(), share, seen, &mut pages)
                .map_err(|error| format!("its memory cannot be read: {error}"))
        });
        match taken {
            Ok(present) => {
                progress(&format!("  {:>6} of {present} pages of {name}", pages.len() - before))
            }
            Err(reason) => notes.push(format!("no pages of {name}: {reason}")),
        }
    }
    (pages, notes)
}

/// Adds at most `share` pages of one process to `pages`. Returns how many pages the process has.
fn take(
    pid: u32,
    share: usize,
    seen: &mut HashSet<u64>,
    pages: &mut Vec<Page>,
) -> io::Result<usize> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let present = present_pages(pid)?;
    // Repeated and same-filled pages are dropped, so read an eighth more than the share.
    let end = pages.len() + share;
    for address in
        thin::runs(present.len(), share + share / 8).into_iter().flat_map(|run| &present[run])
    {
        if pages.len() == end {
            break;
        }
        let mut page = Page::zeroed();
        let read = memory.read_exact_at(&mut page[..], *address);
        if read.is_ok() && !page.is_same_filled() && seen.insert(page.fingerprint()) {
            pages.push(page);
        }
    }
    Ok(present.len())
}

/// Returns the addresses of all resident pages in private anonymous writable mappings, ascending.
fn present_pages(pid: u32) -> io::Result<Vec<u64>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut present = Vec::new();
    for range in maps.lines().filter_map(anonymous_range) {
        let mut words = vec![0; (range.end - range.start) as usize / PAGE_SIZE * 8];
        // The process may have unmapped this range since `maps` was read.
        if pagemap.read_exact_at(&mut words, range.start / PAGE_SIZE as u64 * 8).is_err() {
            continue;
        }
        for (index, word) in words.as_chunks::<8>().0.iter().enumerate() {
            if u64::from_le_bytes(*word) & PRESENT != 0 {
                present.push(range.start + (index * PAGE_SIZE) as u64);
            }
        }
    }
    Ok(present)
}

/// Parses a line of `/proc/PID/maps`: returns the range of a private, writable, anonymous
/// mapping.
fn anonymous_range(line: &str) -> Option<Range<u64>> {
    let mut fields = line.split_whitespace();
    let (range, access) = (fields.next()?, fields.next()?);
    let (_offset, _device, inode) = (fields.next()?, fields.next()?, fields.next()?);
    let (start, end) = range.split_once('-')?;
    let special = fields.next().is_some_and(|name| name.starts_with("[v"));
    if !access.starts_with("rw") || !access.ends_with('p') || inode != "0" || special {
        return None;
    }
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_anonymous_writable_mappings_count() {
        assert_eq!(anonymous_range("7f00-7f20 rw-p 00000000 00:00 0 "), Some(0x7f00..0x7f20));
        assert_eq!(
            anonymous_range("7f00-7f20 rw-p 00000000 00:00 0  [heap]"),
            Some(0x7f00..0x7f20)
        );
        assert_eq!(anonymous_range("7f00-7f20 r--p 00000000 00:00 0 "), None);
        assert_eq!(anonymous_range("7f00-7f20 rw-p 00000000 fe:00 77 /usr/bin/x"), None);
        assert_eq!(anonymous_range("7f00-7f20 rw-s 00000000 00:00 0 "), None);
        assert_eq!(anonymous_range("nonsense"), None);
    }

    #[test]
    fn pages_of_this_process_are_found_with_their_content() {
        let held = vec![0x5A_u8; 64 * PAGE_SIZE];
        let present =
            present_pages(std::process::id()).expect("a process may read its own pagemap");
        let address = (held.as_ptr().addr() as u64).next_multiple_of(PAGE_SIZE as u64);
        assert!(present.binary_search(&address).is_ok());
        let memory = File::open("/proc/self/mem").expect("a process may read its own memory");
        let mut page = Page::zeroed();
        memory.read_exact_at(&mut page[..], address).expect("present");
        assert!(page.iter().all(|&byte| byte == 0x5A));
        drop(held);
    }
}
