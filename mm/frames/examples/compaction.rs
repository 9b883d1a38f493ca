//! The cost and the gain of frame compaction: a random half of 1 GiB of frames is freed, and
//! compaction gathers the rest. For comparison the same frames are then copied in the same order,
//! without anything else.
//!
//! Run with `cargo run --release -p memzip-frames --example compaction [MIB]`.

use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use fastrand::Rng;
use frames::{
    Backing, ChainKind, Committed, CompactRequest, FRAME_SIZE, FrameChains, FrameCount,
    LockedFrame, MigrateError, MigrateMode, MovableOps, OwnerWords, PAGEBLOCK_FRAMES, Pfn, Reclaim,
    Target, Zone, ZoneConfig,
};

#[derive(Debug)]
struct Store {
    chains: FrameChains,
    moves: Mutex<Vec<(Pfn, Pfn)>>,
}

impl MovableOps for Store {
    fn isolate(&self, frame: &LockedFrame<'_>) -> bool {
        self.chains.can_isolate(frame)
    }

    fn migrate<'z>(
        &self,
        from: &LockedFrame<'_>,
        to: Target<'z>,
        _: MigrateMode,
    ) -> Result<Committed, MigrateError<'z>> {
        let (old, new) = (from.pfn(), to.pfn());
        let result = self.chains.migrate_frame(from, to).result;
        if result.is_ok() {
            self.moves.lock().expect("no panic while it is held").push((old, new));
        }
        result
    }

    fn putback(&self, _: &LockedFrame<'_>) {}
}

fn resident() -> f64 {
    sys::rss::resident_bytes().expect("Linux reports it") as f64
}

/// Returns the share of free memory that is in blocks of at least a pageblock. Units: percent.
fn in_large_blocks(zone: &Zone) -> f64 {
    zone.drain();
    let info = zone.buddyinfo();
    let frames = |order: u8| info.blocks(frames::Order::new(order).expect("in range")) << order;
    let all: u64 = (0..=frames::MAX_ORDER).map(frames).sum();
    let large: u64 = (frames::PAGEBLOCK_ORDER..=frames::MAX_ORDER).map(frames).sum();
    large as f64 * 100.0 / all as f64
}

fn main() {
    let mib: u64 = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1024);
    let count = (mib << 20) / FRAME_SIZE as u64;
    let start = resident();
    let capacity = FrameCount((count * 11 / 10).next_multiple_of(PAGEBLOCK_FRAMES.into()));
    let zone = Arc::new(
        Zone::new(ZoneConfig { capacity, ..ZoneConfig::default() }).expect("address space"),
    );
    let owner = zone.reserve_owner().expect("the first");
    let chains = FrameChains::new(owner, count as usize, OwnerWords::default(), Backing::Anonymous)
        .expect("tables");
    let moves = Mutex::new(Vec::with_capacity(count as usize));
    let store = Arc::new(Store { chains, moves });
    let ops: Weak<dyn MovableOps> = Arc::downgrade(&store) as _;
    store.chains.publish(ops);

    // Fill every frame, then free a random half of the chains.
    let mut ids: Vec<_> = (0..count)
        .map(|number| {
            let mut fresh = store.chains.create(ChainKind::Single, 0).expect("numbers are left");
            fresh.attach(0, Reclaim::NotAllowed).expect("frames are left");
            fresh.pieces_mut(0..FRAME_SIZE).expect("attached").0.fill(number as u8);
            (fresh.id(), number as u8)
        })
        .collect();
    Rng::with_seed(1).shuffle(&mut ids);
    for (id, _) in ids.drain(..count as usize / 2) {
        store.chains.try_exclusive(id).expect("idle").destroy();
    }
    zone.release_excess_if_due();
    println!("{mib} MiB of frames, half of them freed by chance");
    println!("free memory in order >= 9 before: {:6.2} %", in_large_blocks(&zone));

    // Compact, then check every byte that is still in use.
    let begin = Instant::now();
    let done = zone.compact(CompactRequest::default());
    let took = begin.elapsed().as_secs_f64();
    let share = in_large_blocks(&zone);
    println!("free memory in order >= 9 after:  {share:6.2} %");
    print!("{}", zone.buddyinfo());
    let in_use = zone.stats().in_use.bytes() as f64;
    // The list of moves is memory of this program, not of the zone.
    let own = (store.moves.lock().expect("no panic inside").len() * size_of::<(Pfn, Pfn)>()) as f64;
    let held = (resident() - start - own) / in_use;
    println!("resident memory for each byte in use: {held:.3}");
    for &(id, number) in &ids {
        let shared = store.chains.share(id).expect("live");
        assert!(
            shared.pieces(0..FRAME_SIZE).expect("attached").0.iter().all(|&byte| byte == number),
            "{id:?} must keep its bytes"
        );
    }
    zone.check().expect("consistent");
    let moved = done.frames_moved as f64;
    println!(
        "{moved} frames moved, {} busy, in {:.1} ms: {:.0} frames/s",
        done.frames_busy,
        took * 1e3,
        moved / took
    );

    // Repeat the same copies in a plain buffer.
    let moves = std::mem::take(&mut *store.moves.lock().expect("no panic inside"));
    drop((store, zone));
    let mut bytes = vec![1_u8; capacity.bytes() as usize];
    let begin = Instant::now();
    for &(from, to) in &moves {
        let at = from.0 as usize * FRAME_SIZE;
        bytes.copy_within(at..at + FRAME_SIZE, to.0 as usize * FRAME_SIZE);
    }
    let copies = begin.elapsed().as_secs_f64();
    println!("the same copies alone, in {:.1} ms: {:.0} frames/s", copies * 1e3, moved / copies);
    println!("compaction takes {:.2} times as long", took / copies);
    assert!(
        share >= 99.0 && held <= 1.05,
        "{share:.2} % in large blocks (at least 99), {held:.3} bytes held per byte (at most 1.05)"
    );
}
