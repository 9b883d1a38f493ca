//! Damaged pages and their effect on other pages. A unit test, because a client cannot overwrite
//! an object.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::{BlockDevice, BlockError, Bytes, Span};
use page::{PAGE_SIZE, Page, Streams};
use zcomp::{Algorithm, Codec, CodecError, Stream};

use crate::slots::{EntryKind, SlotEntry};
use crate::{Zram, ZramConfig};

const SIZE: u64 = 64 * 4096;

fn page(number: u64) -> Page {
    std::array::from_fn(
        |at| if at % 3 == 0 { (number as usize * 31 + at * at / 7) as u8 } else { b'.' },
    )
}

fn span(at: u64, len: u64) -> Span {
    Span::new(at, len, Bytes(SIZE)).expect("inside")
}

fn filled(algorithm: Algorithm) -> Zram {
    let disk =
        Zram::new(ZramConfig { algorithm, ..ZramConfig::new(Bytes(SIZE)) }).expect("a small disk");
    for number in 0..64 {
        disk.write(span(number * 4096, 4096), &page(number)).expect("enough memory");
    }
    disk
}

/// Overwrites the object of a slot with other bytes of the same length.
fn corrupt(disk: &Zram, slot: usize) {
    let handle = disk.0.slots.get(slot).handle().expect("the page has an object");
    let len = disk.0.pages.pool().len(handle).expect("alive");
    disk.0.pages.pool().write(handle, &vec![0xff; len]).expect("the same length");
}

fn reads_back(disk: &Zram, number: u64) -> bool {
    let mut buf = [0; PAGE_SIZE];
    disk.read(span(number * 4096, 4096), &mut buf).is_ok() && buf == page(number)
}

/// Reads of the page fail and are counted, other pages read. A part of the page cannot be
/// written; a write of all of it or a discard makes it readable again.
#[test]
fn a_corrupted_object_is_an_error_for_its_page_alone() {
    for algorithm in [
        Algorithm::Lz4 { acceleration: 1 },
        Algorithm::Lz4hc { level: 4 },
        Algorithm::Zstd { level: 3 },
    ] {
        let disk = filled(algorithm);
        corrupt(&disk, 5);
        corrupt(&disk, 6);
        let damaged = |number: u64| Err(BlockError::Damaged { offset: number * 4096 });
        assert_eq!(disk.read(span(5 * 4096, 4096), &mut [0; 4096]), damaged(5));
        assert_eq!(disk.read(span(4 * 4096, 3 * 4096), &mut [0; 3 * 4096]), damaged(5));
        assert_eq!(disk.read(span(6 * 4096 + 17, 1), &mut [0]), damaged(6));
        assert_eq!(disk.write(span(5 * 4096 + 9, 3), b"abc"), damaged(5));
        assert_eq!((disk.stat().io.failed_reads, disk.stat().io.failed_writes), (3, 1));
        assert!(
            (0..64)
                .filter(|number| ![5, 6].contains(number))
                .all(|number| reads_back(&disk, number))
        );
        disk.write(span(5 * 4096, 4096), &page(5))
            .expect("a whole page needs nothing of the old one");
        disk.discard(span(6 * 4096, 4096)).expect("nor does a discard");
        assert!(reads_back(&disk, 5));
        disk.check().expect("sound");
    }
}

/// An invalid entry, and one that names a freed object, are errors; the read does not loop
/// forever.
#[test]
fn a_damaged_entry_is_an_error_for_its_page_alone() {
    let disk = filled(Algorithm::Lz4 { acceleration: 1 });
    let gone = disk.0.slots.get(9);
    for entry in [SlotEntry::new(EntryKind::Invalid), gone] {
        disk.0.set_entry(9, SlotEntry::EMPTY).expect("the first time frees the page");
        disk.0.slots.compare_exchange(9, SlotEntry::EMPTY, entry).expect("no other thread");
        assert_eq!(
            disk.read(span(9 * 4096, 4096), &mut [0; 4096]),
            Err(BlockError::Damaged { offset: 9 * 4096 })
        );
        assert!(disk.check().is_err());
        disk.0.slots.compare_exchange(9, entry, SlotEntry::EMPTY).expect("no other thread");
    }
    assert!(reads_back(&disk, 8) && reads_back(&disk, 10));
}

/// With as many readers as a zspage can count its pages are busy, not damaged, and readable again
/// when one reader unlocks.
#[test]
fn a_page_with_too_many_readers_is_busy_not_damaged() {
    let disk = filled(Algorithm::Lz4 { acceleration: 1 });
    let pool = disk.0.pages.pool();
    let handle = disk.0.slots.get(5).handle().expect("the page has an object");
    let last = pool.read(handle).expect("alive");
    // The guards are forgotten, not kept: keeping them would take hundreds of megabytes.
    while let Ok(object) = pool.read(handle) {
        std::mem::forget(object);
    }
    let busy = Err(BlockError::Busy { offset: 5 * 4096 });
    assert_eq!(disk.read(span(5 * 4096, 4096), &mut [0; 4096]), busy);
    assert_eq!(disk.write(span(5 * 4096 + 9, 3), b"abc"), busy);
    assert_eq!((disk.stat().io.failed_reads, disk.stat().io.failed_writes), (1, 1));
    let patient = std::thread::scope(|scope| {
        let reader = scope.spawn(|| reads_back(&disk, 5));
        std::thread::sleep(std::time::Duration::from_millis(1));
        drop(last);
        reader.join().expect("no panic")
    });
    assert!(patient, "the request waits for a moment before it fails");
    disk.write(span(5 * 4096, 4096), &page(6)).expect("a whole page needs nothing of the old one");
    disk.write(span(5 * 4096, 4096), &page(5)).expect("nor does the next");
    assert!(reads_back(&disk, 5));
    // The forgotten guards borrow the disk.
    std::mem::forget(disk);
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
        self.inner.decompress(blob, page)
    }
}

/// A write that the codec fails is refused and counted, and the page keeps its content.
#[test]
fn r506_a_codec_that_fails_leaves_the_old_content() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = || {
        let inner = Stream::new(Algorithm::Lz4 { acceleration: 1 })?;
        Stream::with_codec(Box::new(FailingCodec { inner, fails: Arc::clone(&fails) }))
    };
    let streams = Streams::new(2, failing).expect("not failing yet");
    let disk = Zram::with_streams(ZramConfig::new(Bytes(SIZE)), streams).expect("a small disk");
    disk.write(span(0, 4096), &page(0)).expect("enough memory");
    fails.store(true, Ordering::Relaxed);
    assert_eq!(disk.write(span(0, 4096), &page(1)), Err(BlockError::Codec { offset: 0 }));
    assert_eq!(disk.write(span(100, 5), b"12345"), Err(BlockError::Codec { offset: 0 }));
    assert_eq!(disk.stat().io.failed_writes, 2);
    assert!(reads_back(&disk, 0));
    fails.store(false, Ordering::Relaxed);
    disk.write(span(0, 4096), &page(1)).expect("the codec works again");
    disk.check().expect("sound");
}
