//! Every codec: round trips, damaged blobs, no state carried from page to page.

use proptest::prelude::*;
use zcomp::{Algorithm, COMPRESS_BOUND, Codec, CodecError, PAGE_SIZE, Page, Stream, StreamError};

const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::Lz4 { acceleration: 1 },
    Algorithm::Lz4 { acceleration: 65537 },
    Algorithm::Lz4hc { level: 1 },
    Algorithm::Lz4hc { level: 12 },
    Algorithm::Zstd { level: -7 },
    Algorithm::Zstd { level: 1 },
    Algorithm::Zstd { level: 3 },
    Algorithm::Zstd { level: 22 },
];

/// Generates pages of noise, of words from a small vocabulary, of runs, and mixtures of them.
fn pages() -> impl Strategy<Value = Page> {
    let noise = proptest::collection::vec(any::<u8>(), PAGE_SIZE);
    let words = (
        proptest::collection::vec(any::<u64>(), 1..12),
        proptest::collection::vec(any::<prop::sample::Index>(), 512),
    )
        .prop_map(|(words, picks)| {
            picks.iter().flat_map(|pick| pick.get(&words).to_le_bytes()).collect()
        });
    let runs = proptest::collection::vec((any::<u8>(), 1usize..900), 1..40).prop_map(|runs| {
        runs.iter().flat_map(|&(byte, len)| std::iter::repeat_n(byte, len)).collect()
    });
    let mixed = (noise.clone(), 0..PAGE_SIZE).prop_map(|(mut bytes, from)| {
        bytes[from..].fill(7);
        bytes
    });
    prop_oneof![noise, words, runs, mixed]
        .prop_map(|bytes: Vec<u8>| std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(0)))
}

fn stream(algorithm: Algorithm) -> Stream {
    Stream::new(algorithm).expect("the level is in range")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// One stream compresses many pages: what it keeps between them must not change its output.
    #[test]
    fn what_is_compressed_reads_back(pages in proptest::collection::vec(pages(), 1..6)) {
        for algorithm in ALGORITHMS {
            let mut stream = stream(algorithm);
            for page in &pages {
                let blob = stream.compress(page).expect("any page compresses").to_vec();
                let mut back = [0xaa; PAGE_SIZE];
                stream.decompress(&blob, &mut back).expect("its own blob decodes");
                prop_assert!(back == *page, "{algorithm}");
            }
        }
    }

    /// Any bytes decode to a page or a typed error, and the stream works afterwards.
    #[test]
    fn garbage_is_an_error_or_a_page(garbage in proptest::collection::vec(any::<u8>(), 0..5000), page in pages()) {
        for algorithm in ALGORITHMS {
            let mut stream = stream(algorithm);
            let mut back = [0; PAGE_SIZE];
            let _ = stream.decompress(&garbage, &mut back);
            let blob = stream.compress(&page).expect("any page compresses").to_vec();
            stream.decompress(&blob, &mut back).expect("its own blob decodes");
            prop_assert!(back == page, "{algorithm}");
        }
    }

    /// A blob with one byte changed, cut short or extended decodes to a page or a typed error.
    #[test]
    fn a_damaged_blob_is_an_error_or_a_page(page in pages(), at in any::<prop::sample::Index>(), flip in 1u8.., extra in proptest::collection::vec(any::<u8>(), 1..40)) {
        for algorithm in ALGORITHMS {
            let mut stream = stream(algorithm);
            let blob = stream.compress(&page).expect("any page compresses").to_vec();
            let at = at.index(blob.len());
            let mut flipped = blob.clone();
            flipped[at] ^= flip;
            let mut back = [0; PAGE_SIZE];
            let _ = stream.decompress(&flipped, &mut back);
            prop_assert!(stream.decompress(&blob[..at], &mut back).is_err(), "{algorithm}: cut to {at} of {}", blob.len());
            let _ = stream.decompress(&[&blob[..], &extra].concat(), &mut back);
        }
    }
}

#[test]
fn a_blob_of_another_length_is_a_length_error() {
    let mut stream = stream(Algorithm::Lz4 { acceleration: 1 });
    let mut short = vec![0; 200];
    let len = lzzzz::lz4::compress(&[1; 1000], &mut short, 1).expect("fits");
    let result = stream.decompress(&short[..len], &mut [0; PAGE_SIZE]);
    assert_eq!(result, Err(CodecError::Length { algorithm: "lz4", len: 1000 }));
}

#[test]
fn an_empty_blob_is_an_error() {
    for algorithm in ALGORITHMS {
        assert!(stream(algorithm).decompress(&[], &mut [0; PAGE_SIZE]).is_err(), "{algorithm}");
    }
}

#[test]
fn a_zstd_blob_has_two_bytes_of_header() {
    let mut stream = stream(Algorithm::Zstd { level: 3 });
    let noise: Page = std::array::from_fn(|at| {
        (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32) as u8
    });
    let blob = stream.compress(&noise).expect("any page compresses");
    // 2 bytes of frame header and 3 of block header precede a block that is stored raw.
    assert!(blob.len() <= PAGE_SIZE + 5, "{}", blob.len());
}

#[test]
fn a_level_out_of_range_is_refused() {
    for algorithm in [
        Algorithm::Lz4 { acceleration: 0 },
        Algorithm::Lz4hc { level: 13 },
        Algorithm::Zstd { level: 23 },
    ] {
        assert!(matches!(Stream::new(algorithm), Err(StreamError::Level(_))), "{algorithm}");
    }
}

struct WrongLengthCodec;

impl Codec for WrongLengthCodec {
    fn compress(&mut self, _: &Page, _: &mut [u8]) -> Result<usize, CodecError> {
        Ok(COMPRESS_BOUND + 1)
    }
    fn decompress(&mut self, _: &[u8], _: &mut Page) -> Result<(), CodecError> {
        Ok(())
    }
}

#[test]
fn a_codec_that_returns_a_wrong_length_is_refused() {
    assert!(matches!(
        Stream::with_codec(Box::new(WrongLengthCodec)),
        Err(StreamError::SelfTest(CodecError::Compress { .. }))
    ));
}
