//! The content of an experiment: pages of real files of this machine.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use zcomp::{Algorithm, Stream};

use crate::corpus::{Corpus, PAGE};

/// Length of one read. Units: bytes.
const PIECE: usize = 1 << 20;

/// Pages of files, in file order, without pages of one repeated word: a store keeps those for free.
#[derive(Debug)]
pub(super) struct Pages {
    bytes: Arc<Vec<u8>>,
    /// Page numbers of the chosen pages in `bytes`; empty means all.
    chosen: Vec<u32>,
    /// Number of pages the experiment needs.
    wanted: usize,
}

impl Pages {
    /// Loads at most `wanted` pages of files below these paths.
    ///
    /// # Errors
    /// There is no readable file, or all pages are of one word.
    pub(super) fn load(paths: &[PathBuf], wanted: usize) -> Result<Self> {
        // About one in fifteen pages of programs is of one word: read some more.
        let limit = (wanted + wanted / 8) * PAGE;
        let corpus = Corpus::find(paths, limit as u64)?;
        let mut reader = corpus.reader();
        let (mut bytes, mut buf) = (Vec::with_capacity(wanted * PAGE), vec![0; PIECE]);
        while bytes.len() < wanted * PAGE {
            let Some((_, len)) = reader.fill(&mut buf) else { break };
            let room = wanted - bytes.len() / PAGE;
            let useful = buf[..len].chunks_exact(PAGE).filter(|page| !is_one_word(page));
            useful.take(room).for_each(|page| bytes.extend_from_slice(page));
        }
        ensure!(!bytes.is_empty(), "the files below the given paths contain only zeros");
        Ok(Self { bytes: Arc::new(bytes), chosen: Vec::new(), wanted })
    }

    /// Returns the number of pages to store. If there are fewer distinct ones, they repeat.
    pub(super) fn len(&self) -> usize {
        self.wanted
    }

    /// Returns the number of distinct pages.
    pub(super) fn distinct(&self) -> usize {
        if self.chosen.is_empty() { self.bytes.len() / PAGE } else { self.chosen.len() }
    }

    /// Returns as many pages with compressed lengths in `range`, if there are at least `least`.
    pub(super) fn that_compress_to(
        &self,
        algorithm: Algorithm,
        range: &Range<usize>,
        least: usize,
    ) -> Result<Option<Self>> {
        let mut stream = Stream::new(algorithm)?;
        let mut chosen = Vec::new();
        for (number, page) in self.bytes.as_chunks::<PAGE>().0.iter().enumerate() {
            if range.contains(&stream.compress(page)?.len()) {
                chosen.push(u32::try_from(number)?);
            }
        }
        let enough = chosen.len() >= least.max(1);
        Ok(enough.then(|| Self { bytes: Arc::clone(&self.bytes), chosen, wanted: self.wanted }))
    }

    /// Returns the page with this number.
    pub(super) fn get(&self, number: usize) -> &[u8] {
        let number = number % self.distinct();
        let start = self.chosen.get(number).map_or(number, |&page| page as usize) * PAGE;
        &self.bytes[start..start + PAGE]
    }
}

fn is_one_word(page: &[u8]) -> bool {
    page[..8] == page[PAGE - 8..] && page.chunks_exact(8).all(|word| word == &page[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_pages_are_left_out_and_few_pages_repeat() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let page = |byte: u8| (0..PAGE).map(|at| (at % 251) as u8 ^ byte).collect::<Vec<u8>>();
        let content = [page(1), vec![0; PAGE], page(2), vec![7; PAGE]].concat();
        std::fs::write(folder.path().join("a"), content).expect("a small file");
        let pages = Pages::load(&[folder.path().to_owned()], 5).expect("two pages are enough");
        assert_eq!((pages.len(), pages.distinct()), (5, 2));
        assert_eq!(
            (pages.get(0), pages.get(1), pages.get(4)),
            (&page(1)[..], &page(2)[..], &page(1)[..])
        );

        // Both repeat 251 different bytes, so they compress to well below half.
        let select =
            |range| pages.that_compress_to(Algorithm::default(), &range, 2).expect("a codec");
        assert!(select(PAGE / 2..PAGE * 2).is_none());
        let chosen = select(0..PAGE / 2).expect("both");
        assert_eq!((chosen.len(), chosen.distinct(), chosen.get(3)), (5, 2, &page(2)[..]));

        std::fs::write(folder.path().join("a"), vec![0; PAGE]).expect("a small file");
        let error =
            Pages::load(&[folder.path().to_owned()], 5).expect_err("only zeros").to_string();
        assert!(error.contains("zeros"), "{error}");
    }
}
