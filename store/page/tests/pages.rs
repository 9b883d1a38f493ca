//! Pages through a real pool and real codecs: every form, and every way to lose one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use frames::{FrameCount, Zone, ZoneConfig};
use page::{LoadError, PAGE_SIZE, Page, Pages, StoreError, StoredPage, Streams};
use proptest::prelude::*;
use zcomp::{Algorithm, Codec, CodecError, Stream};
use zsmalloc::{AccessError, AllocError, Pool, PoolConfig};

const LZ4: Algorithm = Algorithm::Lz4 { acceleration: 1 };

fn pool(limit: Option<u64>) -> Arc<Pool> {
    let limit = limit.map(|frames| FrameCount::holding(frames * 4096));
    let config =
        ZoneConfig { capacity: FrameCount::holding(16 << 20), limit, ..ZoneConfig::default() };
    let zone = Zone::new(config).expect("16 MiB of address space");
    Pool::new(Arc::new(zone), PoolConfig::default()).expect("tables for it")
}

fn pages(algorithm: Algorithm) -> Pages {
    Pages::new(pool(None), Streams::of(algorithm, 2).expect("a valid level"))
}

/// Returns a page of `noisy` bytes that do not compress, then zeros.
fn page_with(noisy: usize) -> Page {
    let mut page = [0; PAGE_SIZE];
    Rng::with_seed(1).fill(&mut page[..noisy]);
    page
}

fn read(pages: &Pages, stored: StoredPage) -> Page {
    let mut page = [0xaa; PAGE_SIZE];
    pages.load(stored, &mut page).expect("it was stored");
    page
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Pages of every compressibility read back, from contiguous objects and from split ones.
    #[test]
    fn what_is_stored_reads_back(noisy in proptest::collection::vec(0usize..=PAGE_SIZE, 1..60)) {
        for algorithm in [LZ4, Algorithm::Zstd { level: 3 }] {
            let pages = pages(algorithm);
            let stored: Vec<_> = noisy.iter().map(|&n| (n, pages.store(&page_with(n), None).expect("enough memory"))).collect();
            for &(noisy, entry) in &stored {
                prop_assert!(read(&pages, entry) == page_with(noisy));
            }
            pages.pool().check().expect("sound");
            stored.iter().for_each(|&(_, entry)| pages.free(entry).expect("freed once"));
            prop_assert_eq!(pages.pool().stats().objects, 0);
        }
    }

    #[test]
    fn a_pattern_with_equal_halves_is_inline(pattern: [u8; 8], twice: bool) {
        let mut pattern = pattern;
        if twice {
            pattern.copy_within(..4, 4);
        }
        let pages = pages(LZ4);
        let page: Page = std::array::from_fn(|at| pattern[at % 8]);
        let stored = pages.store(&page, None).expect("enough memory");
        prop_assert!(matches!(stored, StoredPage::Same(_) | StoredPage::Pattern(_)));
        let inline = pattern[..4] == pattern[4..];
        prop_assert_eq!(pages.stored_len(stored), Ok(if inline { 0 } else { 8 }));
        prop_assert_eq!(pages.pool().stats().objects, u64::from(!inline));
        prop_assert!(read(&pages, stored) == page);
    }
}

/// a zero page takes no object, a page of noise exactly one frame.
#[test]
fn r507_zeros_take_no_object_and_noise_one_frame() {
    let pages = pages(LZ4);
    let zeros = pages.store(&[0; PAGE_SIZE], None).expect("enough memory");
    assert_eq!(
        (zeros, pages.pool().stats().objects, pages.pool().stats().frames),
        (StoredPage::Same(0), 0, 0)
    );
    let noise = pages.store(&page_with(PAGE_SIZE), None).expect("enough memory");
    assert!(matches!(noise, StoredPage::Raw(_)));
    assert_eq!((pages.pool().stats().objects, pages.pool().stats().frames), (1, 1));
    assert!(read(&pages, noise) == page_with(PAGE_SIZE));
}

/// C-06: a page is raw exactly when its blob would take the huge class anyway, not when the blob
/// exceeds three quarters of a page.
#[test]
fn c06_a_page_is_raw_only_when_its_blob_takes_a_frame() {
    let pages = pages(LZ4);
    let mut stream = Stream::new(LZ4).expect("a valid level");
    let border = pages.pool().largest_with_header();
    assert!(border > PAGE_SIZE * 3 / 4);
    // Pages from a bit below the border to well above it.
    let (mut compressed, mut raw) = (0, 0);
    for noisy in 3000..=PAGE_SIZE {
        let blob = stream.compress(&page_with(noisy)).expect("any page compresses").len();
        let stored = pages.store(&page_with(noisy), None).expect("enough memory");
        assert_eq!(matches!(stored, StoredPage::Raw(_)), blob > border, "a blob of {blob} bytes");
        if blob > border {
            raw += 1
        } else {
            compressed += 1
        }
        pages.free(stored).expect("freed once");
    }
    assert!(
        compressed > 500 && raw > 10,
        "both sides of the border were seen: {compressed} and {raw}"
    );
}

#[test]
fn a_freed_page_is_stale_and_freed_once() {
    let pages = pages(LZ4);
    let stored = pages.store(&page_with(2000), None).expect("enough memory");
    pages.free(stored).expect("the first time");
    let stale = Err(LoadError::Access(AccessError::Stale));
    assert_eq!(pages.load(stored, &mut [0; PAGE_SIZE]), stale);
    assert!(pages.free(stored).is_err());
}

/// A blob overwritten with other bytes of the same length is an error for its page alone.
#[test]
fn a_damaged_object_is_an_error_for_its_page_alone() {
    let pages = pages(Algorithm::Zstd { level: 3 });
    let stored: Vec<_> = (500..3000)
        .step_by(100)
        .map(|noisy| (noisy, pages.store(&page_with(noisy), None).expect("enough memory")))
        .collect();
    let (_, victim) = stored[7];
    let StoredPage::Compressed(handle) = victim else { panic!("1200 noisy bytes compress") };
    let len = pages.pool().len(handle).expect("alive");
    pages.pool().write(handle, &vec![0xff; len]).expect("same length");
    assert!(matches!(pages.load(victim, &mut [0; PAGE_SIZE]), Err(LoadError::Codec(_))));
    for &(noisy, entry) in stored.iter().filter(|(_, entry)| *entry != victim) {
        assert!(read(&pages, entry) == page_with(noisy));
    }
    pages.free(victim).expect("a damaged page can be freed");
    pages.pool().check().expect("the pool is sound");
}

#[test]
fn an_object_of_the_wrong_length_is_an_error() {
    let pages = pages(LZ4);
    let StoredPage::Compressed(handle) =
        pages.store(&page_with(1000), None).expect("enough memory")
    else {
        panic!("it compresses")
    };
    for form in [StoredPage::Raw(handle), StoredPage::Pattern(handle)] {
        assert!(matches!(pages.load(form, &mut [0; PAGE_SIZE]), Err(LoadError::Length { .. })));
    }
}

#[test]
fn no_memory_is_an_error_and_stores_nothing() {
    let pages = Pages::new(pool(Some(2)), Streams::of(LZ4, 1).expect("a valid level"));
    for _ in 0..2 {
        pages.store(&page_with(PAGE_SIZE), None).expect("two frames");
    }
    assert_eq!(pages.store(&page_with(PAGE_SIZE), None), Err(StoreError::Alloc(AllocError::Limit)));
    assert_eq!(pages.pool().stats().objects, 2);
    assert_eq!(pages.store(&[7; PAGE_SIZE], None).expect("needs no memory").handle(), None);
}

/// lz4 that fails while `fails` is set.
struct FailingCodec {
    inner: Stream,
    fails: Arc<AtomicBool>,
}

impl Codec for FailingCodec {
    fn compress(&mut self, page: &Page, out: &mut [u8]) -> Result<usize, CodecError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(CodecError::Compress { algorithm: "failing" });
        }
        let blob = self.inner.compress(page)?;
        out[..blob.len()].copy_from_slice(blob);
        Ok(blob.len())
    }

    fn decompress(&mut self, blob: &[u8], page: &mut Page) -> Result<(), CodecError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(CodecError::Decompress { algorithm: "failing" });
        }
        self.inner.decompress(blob, page)
    }
}

#[test]
fn a_codec_that_fails_is_an_error_and_costs_nothing() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = || {
        Stream::with_codec(Box::new(FailingCodec {
            inner: Stream::new(LZ4)?,
            fails: Arc::clone(&fails),
        }))
    };
    let pages = Pages::new(pool(None), Streams::new(1, failing).expect("not failing yet"));
    let stored = pages.store(&page_with(1000), None).expect("enough memory");
    fails.store(true, Ordering::Relaxed);
    assert!(matches!(
        pages.store(&page_with(1001), None),
        Err(StoreError::Codec(CodecError::Compress { .. }))
    ));
    assert!(matches!(
        pages.load(stored, &mut [0; PAGE_SIZE]),
        Err(LoadError::Codec(CodecError::Decompress { .. }))
    ));
    assert_eq!(pages.pool().stats().objects, 1);
    fails.store(false, Ordering::Relaxed);
    assert!(read(&pages, stored) == page_with(1000));
}

/// a stream is held for one page only, so fewer streams than threads suffice, even with
/// two stores of different codecs.
#[test]
fn r501_threads_share_streams_and_stores_do_not() {
    let stores = [
        Pages::new(pool(None), Streams::of(LZ4, 1).expect("level")),
        pages(Algorithm::Zstd { level: 1 }),
    ];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let stores = &stores;
            scope.spawn(move || {
                for round in 0..200 {
                    let noisy = (thread * 911 + round * 37) % 3000;
                    let entries = [0, 1].map(|which: usize| {
                        stores[which].store(&page_with(noisy), None).expect("enough memory")
                    });
                    for (store, entry) in stores.iter().zip(entries) {
                        assert!(read(store, entry) == page_with(noisy));
                        store.free(entry).expect("freed once");
                    }
                }
            });
        }
    });
    assert!(
        stores
            .iter()
            .all(|store| store.pool().check().is_ok() && store.pool().stats().objects == 0)
    );
}
