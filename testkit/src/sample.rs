//! A few real pages for unit tests.

use std::fs;
use std::path::Path;

use fastrand::Rng;

use crate::Page;
use crate::corpus::{self, Kind};

/// Returns `count` real pages: half text (this project's sources), half machine code (the running
/// executable), none same-filled.
///
/// The same executable and seed give the same pages. Returns fewer only where the sources are
/// missing.
///
/// # Panics
/// When the running executable cannot be read: a test without its data must not pass.
#[must_use]
pub fn sample(count: usize, seed: u64) -> Vec<Page> {
    let mut rng = Rng::with_seed(seed);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let mut text = Vec::new();
    for path in corpus::files_below(root, Kind::Text) {
        text.extend(pages_of(&fs::read(path).unwrap_or_default()));
    }
    let exe = std::env::current_exe()
        .and_then(fs::read)
        .expect("a running test can read its own executable");
    let mut code = pages_of(&exe);
    rng.shuffle(&mut text);
    rng.shuffle(&mut code);
    text.truncate(count / 2);
    code.truncate(count - text.len());
    text.append(&mut code);
    rng.shuffle(&mut text);
    text
}

fn pages_of(bytes: &[u8]) -> Vec<Page> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|chunk| Page::new(*chunk))
        .filter(|page| !page.is_same_filled())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::sample;

    #[test]
    fn samples_are_repeatable_and_full() {
        let pages = sample(64, 5);
        assert_eq!(pages.len(), 64);
        assert_eq!(pages, sample(64, 5));
        assert_ne!(pages, sample(64, 6));
        assert!(pages.iter().all(|page| !page.is_same_filled()));
    }
}
