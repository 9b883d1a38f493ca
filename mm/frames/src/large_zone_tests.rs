//! The cost of each call in a zone of 1 TiB: how long it holds the zone lock, and whether it ends
//! within its budget.
//!
//! All times are CPU time of the calling thread, so the load of the machine does not matter.

use std::sync::Arc;
use std::time::Duration;

use sys::host::thread_cpu_time;

use crate::compaction::{
    CompactGoal, CompactOutcome, CompactRequest, ProactiveCompactor, Proactiveness,
};
use crate::store::Store;
use crate::*;

/// Frames of 1 TiB.
const TERABYTE: u64 = 1 << 28;
/// One in this many pageblocks is committed.
const SPREAD: usize = 66;
/// The longest time that 999 of 1000 holds of the zone lock may take.
const HOLD: Duration = Duration::from_micros(200);
/// Free frames that are touched beforehand: as many as the calls with a budget move content to.
const TOUCHED: usize = 128 << 10;
/// The time that a call may exceed its budget by.
const GRACE: Duration = Duration::from_millis(1);

/// Creates a zone of 1 TiB that was used up to its last frame and has 1 % of its frames in use: two
/// thirds of each 66th pageblock, all of them movable. The lowest `touched` free frames have
/// memory.
fn terabyte(touched: usize) -> Arc<Store> {
    // Without huge pages: the time of a call must not include the zeroing of 2 MiB.
    let (capacity, backing) = (FrameCount(TERABYTE), Backing::AnonymousSmall);
    let config = ZoneConfig { capacity, backing, keep_blocks: u32::MAX, ..ZoneConfig::default() };
    let zone = Arc::new(Zone::new(config).expect("address space"));
    // Free pageblocks stay committed, and are used before others.
    let blocks: Vec<_> = (0..TERABYTE as u32).step_by(PAGEBLOCK_FRAMES as usize * SPREAD).collect();
    for &first in &blocks {
        let range = Pfn(first)..Pfn(first + PAGEBLOCK_FRAMES);
        drop(zone.alloc_contig_range(range, ContigRequest::default()).expect("nothing is in use"));
    }
    let chains = blocks.len() * PAGEBLOCK_FRAMES as usize / MAX_CHAIN;
    let store = Store::new(zone.reserve_owner().expect("the only one"), chains);
    let fill = |_| {
        let mut fresh = store.chains.create(ChainKind::Multi, 1).expect("a number");
        (0..MAX_CHAIN).for_each(|at| fresh.attach(at, Reclaim::NotAllowed).expect("room"));
        fresh.id()
    };
    let ids: Vec<_> = (0..chains).map(fill).collect();
    for (at, id) in ids.into_iter().skip(1).step_by(3).enumerate() {
        if at * MAX_CHAIN < touched {
            touch(&store, id);
        }
        store.end(id);
    }
    zone.drain();
    let stats = zone.stats();
    assert_eq!(
        stats.committed.0,
        blocks.len() as u64 * u64::from(PAGEBLOCK_FRAMES),
        "no other pageblock is committed"
    );
    assert!((99..=102).contains(&(stats.in_use.0 * 10_000 / TERABYTE)), "{stats:?}");
    assert!(stats.online.0 > TERABYTE * 999 / 1000, "{stats:?}");
    store
}

/// Writes to every frame of a chain, so that the kernel allocates memory for it now.
fn touch(store: &Store, id: ChainId) {
    let mut held = store.chains.try_exclusive(id).expect("the chain is not shared");
    for at in (0..MAX_CHAIN).map(|at| at * FRAME_SIZE) {
        held.pieces_mut(at..at + 1).expect("attached").0.fill(1);
    }
    assert_eq!(held.release(), ReleaseStatus::Clean);
}

/// The measurements of one call.
struct Seen {
    call: String,
    holds: usize,
    /// The 99.9th percentile of the holds of the zone lock.
    hold: Duration,
    /// The longest call.
    took: Duration,
}

/// Calls `work` in `rounds` rounds and measures each. Drops its results outside of the measured
/// time.
fn measure<T>(
    zone: &Zone,
    call: impl Into<String>,
    rounds: usize,
    mut work: impl FnMut() -> T,
) -> Seen {
    zone.allocator().buddy.holds.start();
    let mut took = Duration::ZERO;
    for _ in 0..rounds {
        let start = thread_cpu_time();
        let returned = work();
        took = took.max(thread_cpu_time() - start);
        drop(returned);
    }
    let holds = zone.allocator().buddy.holds.stop();
    let hold =
        holds.len().checked_sub(1 + holds.len() / 1000).map_or(Duration::ZERO, |at| holds[at]);
    Seen { call: call.into(), holds: holds.len(), hold, took }
}

fn print(seen: &[Seen]) {
    println!("{:<44} {:>7} {:>12} {:>12}", "call", "holds", "p99.9 hold", "longest call");
    for Seen { call, holds, hold, took } in seen {
        println!("{call:<44} {holds:>7} {hold:>12.1?} {took:>12.1?}");
    }
}

/// What took too long, and how long it took in the first attempt.
type TooLong = (String, Duration);

/// Returns the calls that hold the lock for too long, and those that take longer than `budget` and
/// [`GRACE`].
fn too_long(seen: &[Seen], budget: Duration) -> Vec<TooLong> {
    print(seen);
    let holds = seen.iter().filter(|seen| seen.hold > HOLD);
    let late = seen.iter().filter(|seen| seen.took > budget.saturating_add(GRACE));
    let holds = holds.map(|seen| (format!("{} holds the zone lock", seen.call), seen.hold));
    holds.chain(late.map(|seen| (format!("{} runs", seen.call), seen.took))).collect()
}

/// Fails if a call takes too long in each of six attempts: the machine may disturb single ones.
fn assert_short(attempt: impl Fn() -> Vec<TooLong>) {
    let mut always = attempt();
    for _ in 1..6 {
        if always.is_empty() {
            return;
        }
        let again = attempt();
        always.retain(|(what, _)| again.iter().any(|(other, _)| other == what));
    }
    assert!(always.is_empty(), "{always:#?}");
}

fn orders() -> impl Iterator<Item = Order> {
    Order::SINGLE.and_larger()
}

#[test]
fn no_call_holds_the_lock_of_a_terabyte_for_long() {
    assert_short(|| too_long(&plain_calls(), Duration::MAX));
}

/// The failed frames of a terabyte are far apart. The search for them does not hold the lock.
#[test]
fn the_search_for_failures_holds_the_lock_briefly() {
    let config = ZoneConfig { capacity: FrameCount(TERABYTE), ..ZoneConfig::default() };
    let zone = Zone::new(config).expect("address space");
    assert_short(|| {
        let last = TERABYTE as usize - 1;
        let look = || {
            // Noting a frame again reports it again.
            (0..8).for_each(|at| _ = zone.tables().failed.note(last / 8 * at));
            zone.allocator().process_memory_failures();
        };
        let seen = measure(&zone, "process_memory_failures", 20, look);
        assert_eq!(seen.holds, 20, "one hold for each call");
        too_long(&[seen], Duration::MAX)
    });
}

fn plain_calls() -> Vec<Seen> {
    let store = terabyte(0);
    let zone = store.zone();
    let kinds = [MigrateType::Movable, MigrateType::Unmovable];
    let mut seen = vec![
        measure(zone, "alloc_frame, free", 20_000, || {
            let take = |kind| zone.alloc_frame(kind, Reclaim::NotAllowed).expect("room");
            kinds.into_iter().for_each(|kind| drop(take(kind)));
        }),
        measure(zone, "alloc_frame of many", 4, || {
            let take =
                |_| zone.alloc_frame(MigrateType::Movable, Reclaim::NotAllowed).expect("room");
            drop((0..5000).map(take).collect::<Vec<_>>());
        }),
        measure(zone, "alloc_committed_frame", 1000, || {
            drop(zone.alloc_committed_frame(MigrateType::Movable))
        }),
        measure(zone, "drain", 1000, || zone.drain()),
        measure(zone, "release_excess_if_due", 1000, || zone.release_excess_if_due()),
        measure(zone, "stats", 1000, || assert!(zone.stats().in_use.0 > 0)),
        measure(zone, "vmstat", 1000, || assert_eq!(zone.vmstat().nr_isolated, 0)),
        measure(zone, "buddyinfo", 1000, || assert!(zone.buddyinfo().blocks(Order::PAGEBLOCK) > 0)),
        measure(zone, "pagetypeinfo", 1000, || {
            assert!(zone.pagetypeinfo().to_string().contains("Movable"))
        }),
        measure(zone, "fragmentation", 1000, || assert!(zone.fragmentation() <= 100)),
        measure(zone, "watermarks, pressure", 1000, || {
            assert!(zone.watermarks().low.0 > 0 && zone.pressure() == Pressure::AboveHigh)
        }),
        measure(zone, "allow_over_limit", 1000, || drop(zone.allow_over_limit(FrameCount(1)))),
        measure(zone, "set_limit", 200, || {
            [Some(FrameCount(TERABYTE / 2)), None]
                .into_iter()
                .for_each(|limit| zone.set_limit(limit))
        }),
    ];
    for order in orders() {
        seen.push(measure(zone, format!("alloc_block of {order}, free"), 300, || {
            kinds.into_iter().for_each(|kind| {
                drop(zone.alloc_block(order, kind, Reclaim::NotAllowed).expect("room"))
            });
        }));
    }
    seen.push(measure(zone, "trim", 1, || zone.trim()));
    seen
}

/// Frames that content moves to are touched before the measurement. On a first touch the kernel
/// allocates memory for the frame, and on a machine that is short of memory the kernel reclaims
/// some first. That time counts as CPU time of the thread, and no deadline can stop it.
#[test]
fn calls_with_a_budget_end_with_it_in_a_terabyte() {
    let budget = Duration::from_millis(2);
    assert_short(|| too_long(&calls_within(Budget::within(budget)), budget));
}

fn calls_within(budget: Budget) -> Vec<Seen> {
    let store = terabyte(TOUCHED);
    let zone = store.zone();
    let mut seen = Vec::new();
    // The calls also reset skip hints, so each pageblock has one.
    (0..zone.allocator().read_buddy(|buddy| buddy.online))
        .for_each(|block| zone.tables().skip.insert(units::BlockIndex(block)));
    let goals =
        [CompactGoal::WholeZone, CompactGoal::Fragmentation(0), CompactGoal::Block(Order::MAX)];
    for goal in goals {
        seen.push(measure(zone, format!("compact, {goal:?}"), 20, || {
            zone.compact(CompactRequest { goal, mode: MigrateMode::SyncLight, budget });
        }));
    }
    let mut proactive = ProactiveCompactor::new(Proactiveness::new(100).expect("percent"));
    seen.push(measure(zone, "ProactiveCompactor::step", 50, || _ = proactive.step(zone, budget)));
    assert!(
        zone.vmstat().pgmigrate_success > 0,
        "compaction must move frames: {:?}",
        zone.vmstat()
    );
    let top = Pfn(TERABYTE as u32 - 40 * PAGEBLOCK_FRAMES);
    for (kind, first) in [
        ("used", Pfn(SPREAD as u32 * PAGEBLOCK_FRAMES)),
        ("free", Pfn(PAGEBLOCK_FRAMES)),
        ("last", top),
    ] {
        for blocks in [1, 32] {
            let range = first..first.plus(blocks * PAGEBLOCK_FRAMES);
            seen.push(measure(
                zone,
                format!("alloc_contig_range of {blocks} pageblocks, {kind}"),
                5,
                || {
                    zone.alloc_contig_range(
                        range.clone(),
                        ContigRequest { mode: MigrateMode::Sync, budget },
                    )
                },
            ));
        }
    }
    seen.push(measure(zone, "alloc_contig_range of everything", 2, || {
        let all = zone.alloc_contig_range(
            Pfn(0)..Pfn(TERABYTE as u32),
            ContigRequest { mode: MigrateMode::Sync, budget },
        );
        assert!(matches!(all, Err(ContigError::OutOfTime)), "{all:?}");
    }));
    for frames in [1, 3, 512, 513, 16 << 10, 1 << 20, TERABYTE] {
        let frames = FrameCount(frames);
        seen.push(measure(zone, format!("alloc_contig_frames of {frames}"), 5, || {
            zone.alloc_contig_frames(frames, ContigRequest { mode: MigrateMode::Sync, budget })
        }));
    }
    zone.check().expect("consistent");
    seen
}

/// Every second frame of every pageblock is in use and unmovable.
#[test]
fn failed_direct_compaction_ends_in_time() {
    let short = Duration::from_millis(2);
    assert_short(|| {
        let (searches, requests) = failing_searches(Budget::within(short));
        [too_long(&searches, short), too_long(&requests, Duration::from_millis(50))].concat()
    });
}

/// Runs searches within a budget, then whole requests. All of them fail.
fn failing_searches(budget: Budget) -> ([Seen; 3], [Seen; 3]) {
    let capacity = FrameCount::holding(16 << 30);
    let zone = Zone::new(ZoneConfig { capacity, ..ZoneConfig::default() }).expect("address space");
    let mut held: Vec<_> = (0..capacity.0)
        .map(|_| zone.alloc_frame(MigrateType::Unmovable, Reclaim::NotAllowed).expect("room"))
        .collect();
    held.retain(|frame| frame.pfn().0 % 2 == 0);
    zone.drain();
    let orders = [Order::new(3).expect("small"), Order::PAGEBLOCK, Order::MAX];
    let searches = orders.map(|order| {
        measure(&zone, format!("search for a block of {order}"), 1, || {
            assert_eq!(
                compaction::capture_block(&zone, order, MigrateType::Unmovable, budget.start()),
                Err(CompactOutcome::OutOfTime)
            );
        })
    });
    let requests = orders.map(|order| {
        measure(&zone, format!("alloc_block of {order}"), 1, || {
            let request = Reclaim::Allowed(NoLocksHeld::promise());
            assert_eq!(
                zone.alloc_block(order, MigrateType::Unmovable, request).map(drop),
                Err(AllocError::NoFrames)
            );
        })
    });
    assert_eq!(zone.vmstat().compact_stall, 3);
    (searches, requests)
}

/// Allocating one frame of an empty zone looks only at the lowest pageblocks, however large the
/// zone is.
#[test]
fn one_contiguous_frame_of_an_empty_zone_is_cheap() {
    let zone = Zone::new(ZoneConfig { capacity: FrameCount(TERABYTE), ..ZoneConfig::default() })
        .expect("address space");
    let start = thread_cpu_time();
    let one =
        zone.alloc_contig_frames(FrameCount(1), ContigRequest::default()).expect("an empty zone");
    let took = thread_cpu_time() - start;
    assert_eq!(one.first(), Pfn(0));
    assert!(took < Duration::from_millis(5), "{took:?}");
    let rest = zone
        .alloc_contig_frames(FrameCount(3 << 20), ContigRequest::default())
        .expect("an empty zone");
    assert_eq!(rest.first(), Pfn(PAGEBLOCK_FRAMES));
}

/// The ranges found first are the ones that an exhaustive search finds.
#[test]
fn the_cheapest_ranges_are_found() {
    let capacity = FrameCount(64 * u64::from(PAGEBLOCK_FRAMES));
    let zone = Zone::new(ZoneConfig { capacity, backing: Backing::Heap, ..ZoneConfig::default() })
        .expect("small");
    let zone = Arc::new(zone);
    let store = Store::new(zone.reserve_owner().expect("the only one"), 4096);
    let ids: Vec<_> =
        (0..64 * PAGEBLOCK_FRAMES / 16).map(|_| store.filled(ChainKind::Multi, 16, 7)).collect();
    // In pageblock `n`, `n * 37 % 29 + 1` chains stay.
    let stays = |number: usize| number % 32 < (number / 32) * 37 % 29 + 1;
    ids.iter().enumerate().filter(|&(number, _)| !stays(number)).for_each(|(_, &id)| store.end(id));
    zone.drain();
    let cost = |block: u32| ((block * 37 % 29 + 1) * 16, block);
    let mut blocks: Vec<_> = (0..64).map(cost).collect();
    blocks.sort_unstable();
    let deadline = Budget::unlimited().start();
    let firsts = |found: Vec<Pfn>| found.into_iter().map(|pfn| pfn.block().0).collect::<Vec<_>>();
    let expected: Vec<_> = blocks.iter().map(|&(_, block)| block).take(16).collect();
    assert_eq!(
        firsts(compaction::best(&zone, PAGEBLOCK_FRAMES, deadline).expect("time")),
        expected
    );
    for length in [2, 5, 33] {
        let sum =
            |first: u32| ((first..first + length).map(|block| cost(block).0).sum::<u32>(), first);
        let mut runs: Vec<_> = (0..=64 - length).map(sum).collect();
        runs.sort_unstable();
        let expected: Vec<_> = runs.iter().map(|&(_, first)| first).take(16).collect();
        let found = compaction::best(&zone, length * PAGEBLOCK_FRAMES, deadline).expect("time");
        assert_eq!(firsts(found), expected, "{length} pageblocks");
    }
    assert_eq!(zone.compact(CompactRequest::default()).outcome, CompactOutcome::Done);
    zone.check().expect("consistent");
}
