//! Room made for writes that were refused: what it costs, and that none is refused that would fit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Weak};

use block::{BlockDevice, BlockError, Bytes, Span};
use frames::{FrameCount, NoLocksHeld, Shrinker, ShrinkerPriority};
use zcomp::Algorithm;
use zram::{Zram, ZramConfig};

fn disk(frames: u64) -> Zram {
    let algorithm = Algorithm::Lz4 { acceleration: 1 };
    let disk = Zram::new(ZramConfig { algorithm, ..ZramConfig::new(Bytes(64 << 20)) })
        .expect("a small disk");
    disk.zone().set_limit(Some(FrameCount(frames)));
    disk
}

fn span(disk: &Zram, page: u64) -> Span {
    Span::new(page * 4096, 4096, disk.size()).expect("inside")
}

/// `noisy` bytes that do not compress, then blanks.
fn page(seed: u64, noisy: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..4096).map(|at| if at < noisy { next() } else { b' ' }).collect()
}

fn write(disk: &Zram, number: u64, bytes: &[u8]) -> Result<(), BlockError> {
    disk.write(span(disk, number), bytes)
}

/// Several writers at the limit at the same moment, and frames for all of them to be had by compaction: whoever comes second finds that nothing is left
/// to compact, but what the first one freed is there.
#[test]
fn r508_writers_that_meet_at_the_limit_all_get_what_one_of_them_freed() {
    const WRITERS: u64 = 4;
    let disk = disk(600);
    let mut stored = 0;
    while write(&disk, stored, &page(stored, 1000)).is_ok() {
        stored += 1;
    }
    let mut rounds = 0;
    for round in 0..300 {
        let thinned: Vec<u64> = (0..32).map(|step| (round * 7 + step * 31) % stored).collect();
        thinned.iter().for_each(|&number| disk.discard(span(&disk, number)).expect("fine"));
        let room = 600 * 4096 - disk.stat().mm.mem_used_total;
        if disk.pool().frames_freeable() + room / 4096 > WRITERS {
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
        (0..WRITERS).for_each(|writer| disk.discard(span(&disk, stored + writer)).expect("fine"));
        for &number in &thinned {
            let _ = write(&disk, number, &page(number, 1000));
        }
    }
    assert!(rounds > 100, "only {rounds} rounds had anything to free");
    disk.check().expect("sound");
}

/// Says that it has frames, and gives some when it is told to: by discarding pages of the disk.
#[derive(Debug)]
struct Owner {
    disk: Weak<Zram>,
    claims: AtomicU64,
    gives: AtomicU64,
    asked: AtomicU64,
}

impl Shrinker for Owner {
    fn count(&self) -> FrameCount {
        FrameCount(self.claims.load(Relaxed))
    }

    fn scan(&self, _: FrameCount, _: &NoLocksHeld) -> FrameCount {
        self.asked.fetch_add(1, Relaxed);
        let Some((disk, page)) =
            self.disk.upgrade().zip(self.gives.swap(0, Relaxed).checked_sub(1))
        else {
            return FrameCount(0);
        };
        disk.discard(span(&disk, page)).expect("fine");
        FrameCount(1)
    }
}

impl Owner {
    /// How often it is asked for room by so many writes that are refused.
    fn asked_by(&self, disk: &Zram, writes: u64) -> u64 {
        let before = self.asked.load(Relaxed);
        for number in 200..200 + writes {
            assert_eq!(
                write(disk, number, &page(number, 4096)),
                Err(BlockError::NoSpace { offset: number * 4096 })
            );
        }
        self.asked.load(Relaxed) - before
    }
}

/// A disk that is full and stays full. Who has nothing to give is not asked; who never gives is asked once a write, and more often only after something
/// was freed; and a write that would fit is never refused, however many were before it.
#[test]
fn a_full_disk_remembers_that_nobody_gives() {
    let disk = Arc::new(disk(100));
    (0..100).for_each(|number| write(&disk, number, &page(number, 4096)).expect("fits"));
    let (claims, gives, asked) = Default::default();
    let owner = Arc::new(Owner { disk: Arc::downgrade(&disk), claims, gives, asked });
    let weak: Weak<dyn Shrinker> = Arc::downgrade(&owner) as _;
    let registration = disk.zone().register_shrinker(ShrinkerPriority::Balloon, weak);
    assert_eq!(owner.asked_by(&disk, 100), 0);

    owner.claims.store(7, Relaxed);
    let first = owner.asked_by(&disk, 1);
    assert!(first > 1, "one who is busy is asked again");
    assert_eq!(owner.asked_by(&disk, 100), 100);

    disk.discard(span(&disk, 0)).expect("fine");
    write(&disk, 0, &page(0, 4096)).expect("a frame is free");
    assert_eq!(owner.asked_by(&disk, 1), first);
    assert_eq!(owner.asked_by(&disk, 100), 100);

    owner.gives.store(1 + 5, Relaxed);
    write(&disk, 300, &page(300, 4096)).expect("somebody gives at last");
    assert_eq!(owner.asked_by(&disk, 1), first, "a page was freed, so it is worth asking again");
    drop(registration);
    assert_eq!(owner.asked_by(&disk, 10), 0);
    disk.check().expect("sound");
}
