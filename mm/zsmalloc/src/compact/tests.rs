//! Object compaction of prepared pools.

mod limit;
mod shrinker;

use std::sync::Arc;
use std::time::Duration;

use frames::{ChainId, CompactOutcome, CompactRequest, FRAME_SIZE};
use sys::Backing;

use crate::tests::{pool_in, zone};
use crate::{Budget, CompactionOutcome, Handle, Pool, PoolConfig};

fn pool() -> Arc<Pool> {
    crate::tests::pool(8192)
}

fn pool_with(chain: u8) -> Arc<Pool> {
    pool_in(&zone(8192, Backing::Heap), PoolConfig { chain, ..PoolConfig::default() })
}

fn fill(pool: &Pool, len: usize, count: u32) -> Vec<Handle> {
    (0..count).map(|seed| pool.store(&content(seed, len)).expect("room")).collect()
}

fn content(seed: u32, len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|byte| (seed.wrapping_mul(2_654_435_761).wrapping_add(byte * 31) >> 8) as u8)
        .collect()
}

fn free_every(pool: &Pool, handles: &[Handle], keep: impl Fn(usize) -> bool) {
    for (number, &handle) in handles.iter().enumerate() {
        if !keep(number) {
            pool.free(handle).expect("live");
        }
    }
    pool.check().expect("consistent");
}

/// compaction halves the frames of a half-used pool and keeps all bytes.
#[test]
fn r330_half_a_pool_needs_half_its_frames() {
    for len in [40, 300, 1000, 1850, 3000, 3700] {
        let pool = pool();
        let handles = fill(&pool, len, 2000);
        let full = pool.frames();
        free_every(&pool, &handles, |number| number % 2 == 0);
        let report = pool.compact(&Budget::unlimited());
        pool.check().expect("consistent");
        assert_eq!(report.outcome, CompactionOutcome::Done);
        assert!(pool.frames() <= full / 2 + 1, "{len}: {} of {full} frames left", pool.frames());
        for (number, &handle) in handles.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
            assert_eq!(
                pool.read(handle).expect("live").to_vec(),
                content(number as u32, len),
                "object {number}"
            );
        }
    }
}

/// S-47: a second run in a row moves no object.
#[test]
fn s47_a_second_run_moves_nothing() {
    let pool = pool();
    let handles = fill(&pool, 1850, 1500);
    free_every(&pool, &handles, |number| number % 5 == 0);
    assert!(pool.compact(&Budget::unlimited()).objects_moved > 0);
    let second = pool.compact(&Budget::unlimited());
    assert_eq!((second.objects_moved, second.frames_freed, second.skipped), (0, 0, 0));
}

/// S-47, R-332: compaction stops inside a zspage once the class holds no more frames than it needs.
#[test]
fn s47_compaction_stops_when_nothing_is_left_to_gain() {
    let pool = pool_with(3);
    let handles = fill(&pool, 1100, 22);
    // The first zspage has room for two objects. In the second, only the last object keeps a frame.
    free_every(&pool, &handles, |number| {
        ![1, 5].contains(&number) && (number < 13 || number == 21)
    });
    assert_eq!((pool.frames(), pool.frames_freeable()), (5, 1));
    let report = pool.compact(&Budget::unlimited());
    assert_eq!(
        (report.objects_moved, report.frames_freed),
        (1, 1),
        "one object moves for the one frame"
    );
    pool.check().expect("consistent");
}

/// S-21, L-04: a reader keeps the bytes of an object that is moved and freed. The reader's own
/// thread compacts.
#[test]
fn s21_a_reader_keeps_the_bytes_of_a_moved_object() {
    let pool = pool();
    let handles = fill(&pool, 1850, 500);
    free_every(&pool, &handles, |number| number % 3 == 0);
    let readers: Vec<_> =
        handles.iter().step_by(30).map(|&handle| pool.read(handle).expect("live")).collect();
    pool.compact(&Budget::unlimited());
    handles.iter().step_by(3).for_each(|&handle| {
        pool.free(handle).expect("live");
    });
    let again = fill(&pool, 1850, 500);
    for (reader, number) in readers.iter().zip((0..).step_by(30)) {
        assert_eq!(reader.to_vec(), content(number, 1850), "object {number}");
    }
    drop(readers);
    pool.check().expect("the last reader frees what was pending");
    free_every(&pool, &again, |_| false);
    assert_eq!(pool.frames(), 0);
}

/// An empty budget moves nothing. A small one ends early and reports it, and the pool is
/// consistent after each run.
#[test]
fn a_budget_is_kept() {
    let pool = pool();
    let handles = fill(&pool, 500, 8000);
    free_every(&pool, &handles, |number| number % 2 == 0);
    let none = pool.compact(&Budget::within(Duration::ZERO));
    assert_eq!((none.objects_moved, none.outcome), (0, CompactionOutcome::OutOfTime));
    let mut runs = 0;
    while pool.compact(&Budget::within(Duration::from_micros(50))).outcome
        == CompactionOutcome::OutOfTime
    {
        pool.check().expect("consistent");
        runs += 1;
        assert!(runs < 100_000, "every run makes progress");
    }
    let live = pool.stats().live_bytes;
    assert!(live * 100 / (pool.frames() * FRAME_SIZE as u64) >= 95);
}

/// R-331, B4: compaction does not move huge objects, and their handles stay valid.
#[test]
fn b4_huge_objects_stay_where_they_are() {
    let pool = pool();
    let handles = fill(&pool, 4096, 100);
    free_every(&pool, &handles, |number| number % 2 == 0);
    assert_eq!(pool.frames(), 50);
    assert_eq!(pool.compact(&Budget::unlimited()).objects_moved, 0);
    free_every(&pool, &handles[..1], |_| false);
}

/// after object compaction and frame compaction, the zone commits no more
/// pageblocks than it needs, and every byte is there.
#[test]
fn frame_compaction_leaves_whole_pageblocks_free() {
    let pool = pool();
    let mixed = |number: usize| [700, 1850, 3000, 4096][number % 4];
    let handles: Vec<Handle> = (0..8000)
        .map(|number| pool.store(&content(number as u32, mixed(number))).expect("room"))
        .collect();
    free_every(&pool, &handles, |number| number % 7 < 2);
    pool.compact(&Budget::unlimited());
    let request = |budget| CompactRequest { budget, ..CompactRequest::default() };
    let none = pool.zone().compact(request(Budget::within(Duration::ZERO)));
    assert_eq!((none.outcome, none.frames_moved), (CompactOutcome::OutOfTime, 0));
    let done = pool.zone().compact(request(Budget::unlimited()));
    assert_eq!((done.outcome, done.frames_busy), (CompactOutcome::Done, 0));
    assert!(done.frames_moved > 0);
    pool.check().expect("consistent");
    pool.zone().trim();
    let zone = pool.zone().stats();
    assert!(zone.committed.0 - zone.in_use.0 < 512, "{zone:?}");
    for (number, &handle) in handles.iter().enumerate().filter(|(number, _)| number % 7 < 2) {
        let expected = content(number as u32, mixed(number));
        assert_eq!(pool.read(handle).expect("live").to_vec(), expected, "object {number}");
    }
}

/// R-332, L-09: the gain is counted in frames. 599 objects, 11 to a zspage of three frames, need
/// 54 zspages and two frames.
#[test]
fn r332_objects_move_only_to_free_a_frame() {
    let pool = pool_with(3);
    let class = pool.classes.for_len(1100).expect("a class");
    assert_eq!((class.size, class.frames, class.objects), (1104, 3, 11), "the example's class");
    let handles = fill(&pool, 1100, 605);
    assert_eq!((pool.frames(), pool.frames_freeable()), (165, 0));
    // Free six objects in six zspages. Their frames hold other objects, but 599 objects need only
    // 164 frames.
    let holes: Vec<Handle> = handles.iter().step_by(50).take(6).copied().collect();
    free_every(&pool, &holes, |_| false);
    assert_eq!((pool.frames(), pool.frames_freeable()), (165, 1));
    let report = pool.compact(&Budget::unlimited());
    assert_eq!((report.frames_freed, pool.frames(), pool.frames_freeable()), (1, 164, 0));
    // A free slot in a full zspage: filling it from the last zspage would free nothing.
    free_every(&pool, &[handles[120]], |_| false);
    assert_eq!(pool.frames_freeable(), 0);
    let report = pool.compact(&Budget::unlimited());
    assert_eq!((report.objects_moved, report.outcome), (0, CompactionOutcome::Done));
}

/// Returns a pool whose zspages are one frame of four objects; `used` is how many of the four stay.
fn prepared(used: &[u8]) -> (Arc<Pool>, Vec<Vec<Handle>>) {
    let pool = pool_with(1);
    let handles = fill(&pool, 1000, used.len() as u32 * 4);
    let zspages: Vec<Vec<Handle>> = handles.chunks(4).map(<[Handle]>::to_vec).collect();
    let kept = |&(zspage, place): &(usize, usize)| place < usize::from(used[zspage]);
    let all = (0..used.len()).flat_map(|zspage| (0..4).map(move |place| (zspage, place)));
    for (zspage, place) in all.filter(|at| !kept(at)) {
        pool.free(zspages[zspage][place]).expect("live");
    }
    (pool, zspages)
}

fn chain_of(pool: &Pool, handle: Handle) -> ChainId {
    pool.handles.locate(handle).expect("live").chain()
}

/// R-331, L-19: the emptiest zspage is the source and the fullest the destination, so the fewest
/// objects move.
#[test]
fn l19_the_emptiest_zspage_goes_into_the_fullest() {
    let (pool, zspages) = prepared(&[2, 3, 1, 3, 2]);
    let full = [chain_of(&pool, zspages[1][0]), chain_of(&pool, zspages[3][0])];
    let report = pool.compact(&Budget::unlimited());
    // Eleven objects need three frames. First the zspage with one object is emptied, then one
    // with two: three moves free two frames.
    assert_eq!((report.objects_moved, report.frames_freed, report.zspages_freed), (3, 2, 2));
    assert!(
        full.contains(&chain_of(&pool, zspages[2][0])),
        "the single object moved to one of the fullest"
    );
    pool.check().expect("consistent");
}

/// KERNEL 1.4: a busy or damaged source is skipped and reported, and the class continues. It is
/// moved once that is possible.
#[test]
fn a_busy_or_damaged_source_does_not_stop_its_class() {
    let (pool, zspages) = prepared(&[1, 1, 2, 2, 3, 3]);
    let (busy, damaged) = (chain_of(&pool, zspages[0][0]), chain_of(&pool, zspages[1][0]));
    let mut held = pool.zspages.chains.try_exclusive(damaged).expect("an idle chain");
    let header = held.pieces_mut(0..4).expect("a frame").0;
    let good: [u8; 4] = (&*header).try_into().expect("four bytes");
    header.copy_from_slice(&[0xff; 4]);
    drop(held);
    let writer = pool.zspages.chains.try_exclusive(busy).expect("an idle chain");
    let report = pool.compact(&Budget::unlimited());
    // Twelve objects fit in three frames. The ten movable ones take three; the other two keep
    // theirs.
    assert_eq!(
        (report.outcome, report.zspages_freed, pool.frames()),
        (CompactionOutcome::Done, 1, 5)
    );
    assert!(report.skipped >= 2, "{report:?}");
    let again = pool.compact(&Budget::unlimited());
    assert_eq!(again.objects_moved, 0, "S-47: unavailable zspages cause no moves");
    drop(writer);
    let mut held = pool.zspages.chains.try_exclusive(damaged).expect("an idle chain");
    held.pieces_mut(0..4).expect("a frame").0.copy_from_slice(&good);
    drop(held);
    let report = pool.compact(&Budget::unlimited());
    assert_eq!((report.skipped, pool.frames(), pool.frames_freeable()), (0, 3, 0));
    pool.check().expect("consistent");
}

/// L-10, S-13: a frame that a reader keeps is not reported as freed. The reader frees it when it
/// leaves.
#[test]
fn l10_a_frame_kept_by_a_reader_is_not_counted() {
    let (pool, zspages) = prepared(&[1, 3]);
    let reader = pool.read(zspages[0][0]).expect("live");
    let report = pool.compact(&Budget::unlimited());
    let counts = (report.objects_moved, report.frames_freed, report.zspages_freed);
    assert_eq!(counts, (1, 0, 0), "a frame that its reader keeps is not free");
    assert_eq!(pool.frames(), 2);
    assert_eq!(reader.to_vec(), content(0, 1000));
    drop(reader);
    assert_eq!(pool.frames(), 1);
    assert_eq!(pool.stats().compaction.frames_freed, 0);
    pool.check().expect("consistent");
}

/// Budgets of zero, of the maximum and without limit, on an empty, a full and a sparse pool.
#[test]
fn every_budget_reports_its_outcome() {
    let empty = pool();
    let (full, _) = prepared(&[4; 8]);
    for budget in
        [Budget::within(Duration::ZERO), Budget::within(Duration::MAX), Budget::unlimited()]
    {
        for pool in [&empty, &full] {
            let report = pool.compact(&budget);
            assert_eq!(
                (report.outcome, report.objects_moved, report.skipped),
                (CompactionOutcome::Done, 0, 0),
                "{budget:?}"
            );
        }
    }
    let (sparse, _) = prepared(&[1; 8]);
    assert_eq!(
        sparse.compact(&Budget::within(Duration::ZERO)).outcome,
        CompactionOutcome::OutOfTime
    );
    assert_eq!(sparse.compact(&Budget::within(Duration::MAX)).frames_freed, 6);
}

/// INV-POOL-3: a frame that was attached for an object that then could not be moved is detached.
#[test]
fn an_unused_destination_frame_is_detached() {
    let pool = pool_with(3);
    let handles = fill(&pool, 1100, 22);
    // The first zspage keeps two full frames and needs a third for the next object. The second
    // keeps its first and its last object.
    free_every(&pool, &handles, |number| number < 7 || number == 11 || number == 21);
    assert_eq!((pool.frames(), pool.frames_freeable()), (4, 1));
    let source = chain_of(&pool, handles[11]);
    let flip = || {
        let mut held = pool.zspages.chains.try_exclusive(source).expect("an idle chain");
        [0, 10 * 1104]
            .into_iter()
            .for_each(|at| held.pieces_mut(at..at + 1).expect("a frame").0[0] ^= 0x80);
    };
    flip();
    let report = pool.compact(&Budget::unlimited());
    assert_eq!((report.objects_moved, report.frames_freed, pool.frames()), (0, 0, 4));
    assert!(report.skipped > 0);
    flip();
    pool.check().expect("consistent");
    assert_eq!(pool.compact(&Budget::unlimited()).frames_freed, 1);
}
