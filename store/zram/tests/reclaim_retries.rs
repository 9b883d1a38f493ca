//! Reclaim for writes that were refused: how often it runs, and that no write that would fit is
//! refused.

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Weak};

use block::{BlockDevice, BlockError};
use frames::{FrameCount, NoLocksHeld, Shrinker, ShrinkerPriority};
use zram::Zram;

use support::{disk_of_frames, page, page_span, write};

/// Several writers reach the limit at once, and compaction can free frames for all of them. A
/// later writer finds nothing left to compact, but the frames that an earlier one freed.
#[test]
fn r508_racing_writers_share_what_one_of_them_freed() {
    const WRITERS: u64 = 4;
    let disk = disk_of_frames(64 << 20, 600);
    let mut stored = 0;
    while write(&disk, stored, &page(stored, 1000)).is_ok() {
        stored += 1;
    }
    let mut rounds = 0;
    for round in 0..300 {
        // Make holes that compaction can turn into at least one frame per writer.
        let thinned: Vec<u64> = (0..32).map(|step| (round * 7 + step * 31) % stored).collect();
        thinned.iter().for_each(|&number| disk.discard(page_span(&disk, number)).expect("fine"));
        let available = 600 * 4096 - disk.stat().mm.mem_used_total;
        // All writers write a page that needs a frame, at the same moment.
        if disk.pool().frames_freeable() + available / 4096 > WRITERS {
            let start = Barrier::new(WRITERS as usize);
            std::thread::scope(|scope| {
                for writer in 0..WRITERS {
                    let (disk, start) = (&disk, &start);
                    scope.spawn(move || {
                        let noise = page(round * WRITERS + writer, 4096);
                        start.wait();
                        write(disk, stored + writer, &noise)
                            .unwrap_or_else(|error| panic!("round {round}: {error}"));
                    });
                }
            });
            rounds += 1;
        }
        (0..WRITERS)
            .for_each(|writer| disk.discard(page_span(&disk, stored + writer)).expect("fine"));
        for &number in &thinned {
            let _ = write(&disk, number, &page(number, 1000));
        }
    }
    assert!(rounds > 100, "only {rounds} rounds had anything to free");
    disk.check().expect("sound");
}

/// A shrinker that reports `reported` frames. It frees one if `frees_page` is set, by discarding
/// page `frees_page - 1` of the disk.
#[derive(Debug)]
struct FlakyShrinker {
    disk: Weak<Zram>,
    reported: AtomicU64,
    frees_page: AtomicU64,
    scans: AtomicU64,
}

impl Shrinker for FlakyShrinker {
    fn count(&self) -> FrameCount {
        FrameCount(self.reported.load(Relaxed))
    }

    fn scan(&self, _: FrameCount, _: &NoLocksHeld) -> FrameCount {
        self.scans.fetch_add(1, Relaxed);
        let Some((disk, page)) =
            self.disk.upgrade().zip(self.frees_page.swap(0, Relaxed).checked_sub(1))
        else {
            return FrameCount(0);
        };
        disk.discard(page_span(&disk, page)).expect("fine");
        FrameCount(1)
    }
}

impl FlakyShrinker {
    /// Counts the scans that so many refused writes cause.
    fn scans_of(&self, disk: &Zram, writes: u64) -> u64 {
        let before = self.scans.load(Relaxed);
        for number in 200..200 + writes {
            assert_eq!(
                write(disk, number, &page(number, 4096)),
                Err(BlockError::NoSpace { offset: number * 4096 })
            );
        }
        self.scans.load(Relaxed) - before
    }
}

/// A disk that is full and stays full. A shrinker without frames is not called. One that never
/// frees a frame is called once per write, and more often only after something was freed. A write
/// that would fit is never refused, however many were refused before it.
#[test]
fn a_full_disk_calls_a_failing_shrinker_once_a_write() {
    let disk = Arc::new(disk_of_frames(64 << 20, 100));
    (0..100).for_each(|number| write(&disk, number, &page(number, 4096)).expect("fits"));
    let (reported, frees_page, scans) = Default::default();
    let shrinker =
        Arc::new(FlakyShrinker { disk: Arc::downgrade(&disk), reported, frees_page, scans });
    let weak: Weak<dyn Shrinker> = Arc::downgrade(&shrinker) as _;
    let registration = disk.zone().register_shrinker(ShrinkerPriority::Balloon, weak);
    assert_eq!(shrinker.scans_of(&disk, 100), 0);

    // It reports frames but frees none: several scans for the first write, then one each.
    shrinker.reported.store(7, Relaxed);
    let first = shrinker.scans_of(&disk, 1);
    assert!(first > 1, "a busy shrinker is called again");
    assert_eq!(shrinker.scans_of(&disk, 100), 100);

    // A free on the device resets the count of failures.
    disk.discard(page_span(&disk, 0)).expect("fine");
    write(&disk, 0, &page(0, 4096)).expect("a frame is free");
    assert_eq!(shrinker.scans_of(&disk, 1), first);
    assert_eq!(shrinker.scans_of(&disk, 100), 100);

    // It frees one frame at last, and the write that needs it succeeds.
    shrinker.frees_page.store(1 + 5, Relaxed);
    write(&disk, 300, &page(300, 4096)).expect("the shrinker frees a frame");
    assert_eq!(shrinker.scans_of(&disk, 1), first, "a page was freed, so a retry may succeed");
    drop(registration);
    assert_eq!(shrinker.scans_of(&disk, 10), 0);
    disk.check().expect("sound");
}
