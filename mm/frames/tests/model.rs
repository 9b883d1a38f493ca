//! Random requests against a model: no frame has two owners, none is lost, and the accounting
//! equations hold after each step.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

use frames::{
    AllocError, Backing, Block, Frame, FrameCount, MigrateType, Order, PAGEBLOCK_FRAMES, Reclaim,
    Zone, ZoneConfig,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Frame(MigrateType),
    Frames(u16, MigrateType),
    Block(u8, MigrateType),
    Free(prop::sample::Index),
    FreeMany(u8),
    Limit(Option<u16>),
    Drain,
    Trim,
}

/// A frame or a block. Dropping it frees it.
enum Owned<'z> {
    Frame(Frame<'z>),
    Block(Block<'z>),
}

impl Owned<'_> {
    fn range(&self) -> Range<u32> {
        match self {
            Self::Frame(frame) => frame.pfn().0..frame.pfn().0 + 1,
            Self::Block(block) => block.first().0..block.first().0 + block.order().frames(),
        }
    }
}

/// The frames and blocks in use, by first frame.
#[derive(Default)]
struct Model<'z> {
    held: BTreeMap<u32, Owned<'z>>,
}

impl<'z> Model<'z> {
    fn in_use(&self) -> u64 {
        self.held.values().map(|owned| owned.range().len() as u64).sum()
    }

    /// Returns whether none of these frames is in use.
    fn is_free(&self, frames: &Range<u32>) -> bool {
        // Blocks do not overlap, so only the last one that starts before the end can reach in.
        self.held
            .range(..frames.end)
            .next_back()
            .is_none_or(|(_, owned)| owned.range().end <= frames.start)
    }

    /// Adds a frame or block. Fails when part of it is in use already.
    fn take(&mut self, owned: Owned<'z>) {
        let frames = owned.range();
        assert!(
            (frames.start as usize).is_multiple_of(frames.len()),
            "{frames:?} is not aligned to its size"
        );
        assert!(self.is_free(&frames), "{frames:?} has two owners");
        self.held.insert(frames.start, owned);
    }
}

fn migrate_type() -> impl Strategy<Value = MigrateType> {
    prop_oneof![
        4 => Just(MigrateType::Movable),
        2 => Just(MigrateType::Unmovable),
        1 => Just(MigrateType::Cma),
    ]
}

fn step(max_order: u8) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => migrate_type().prop_map(Step::Frame),
        2 => (1..600_u16, migrate_type()).prop_map(|(count, kind)| Step::Frames(count, kind)),
        6 => (0..=max_order, migrate_type()).prop_map(|(order, kind)| Step::Block(order, kind)),
        12 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => any::<u8>().prop_map(Step::FreeMany),
        1 => prop::option::of(0_u16..2000).prop_map(Step::Limit),
        1 => Just(Step::Drain),
        1 => Just(Step::Trim),
    ]
}

fn zone(blocks: u64, keep_blocks: u32) -> Zone {
    Zone::new(ZoneConfig {
        capacity: FrameCount(blocks * u64::from(PAGEBLOCK_FRAMES)),
        backing: Backing::Heap,
        keep_blocks,
        lists: Some(2),
        ..ZoneConfig::default()
    })
    .expect("a small zone")
}

/// Fails unless the limit is reached, or there is no free block of this size.
fn assert_refusal_is_right(
    zone: &Zone,
    model: &Model<'_>,
    order: Order,
    kind: MigrateType,
    error: AllocError,
) {
    let stats = zone.stats();
    let has_free_run = |order: Order| {
        let last = (stats.capacity.0 as u32).saturating_sub(order.frames() - 1);
        let mut firsts = (0..last).step_by(order.frames() as usize);
        firsts.any(|first| model.is_free(&(first..first + order.frames())))
    };
    match error {
        AllocError::Limit => {
            let limit = stats.limit.expect("there is a limit");
            assert!(model.in_use() + u64::from(order.frames()) > limit.0, "refused below {limit}");
        }
        // Movable requests may use every pageblock; the others can at least take a wholly free one.
        AllocError::NoFrames if kind == MigrateType::Movable => {
            assert!(!has_free_run(order), "{order} is free")
        }
        AllocError::NoFrames => {
            assert!(!has_free_run(order.max(Order::PAGEBLOCK)), "a pageblock is free")
        }
        AllocError::Poisoned => panic!("the zone is poisoned"),
    }
}

fn run(zone: &Zone, steps: &[Step]) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Frame(kind) => match zone.alloc_frame(*kind, Reclaim::NotAllowed) {
                Ok(frame) => model.take(Owned::Frame(frame)),
                Err(error) => assert_refusal_is_right(zone, &model, Order::SINGLE, *kind, error),
            },
            Step::Frames(count, kind) => {
                let frames =
                    (0..*count).map_while(|_| zone.alloc_frame(*kind, Reclaim::NotAllowed).ok());
                frames.for_each(|frame| model.take(Owned::Frame(frame)));
            }
            Step::Block(order, kind) => {
                let order = Order::new(*order).expect("in range");
                match zone.alloc_block(order, *kind, Reclaim::NotAllowed) {
                    Ok(block) => model.take(Owned::Block(block)),
                    Err(error) => assert_refusal_is_right(zone, &model, order, *kind, error),
                }
            }
            Step::Free(index) if !model.held.is_empty() => {
                let first = *index.get(&model.held.keys().copied().collect::<Vec<_>>());
                model.held.remove(&first);
            }
            Step::Free(_) => {}
            Step::FreeMany(keep) => model.held.retain(|first, _| first % 7 == u32::from(*keep % 7)),
            Step::Limit(limit) => zone.set_limit(limit.map(|frames| FrameCount(frames.into()))),
            Step::Drain => zone.drain(),
            Step::Trim => zone.trim(),
        }
        zone.check().unwrap_or_else(|error| panic!("after {step:?}: {error}"));
        assert_eq!(zone.stats().in_use.0, model.in_use());
    }
    drop(model);
    zone.trim();
    zone.check().expect("an empty zone is consistent");
    let stats = zone.stats();
    assert_eq!(
        (stats.in_use.0, stats.cached.0, stats.committed.0),
        (0, 0, 0),
        "trim decommits everything"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_tiny_zone_agrees_with_the_model(
        steps in prop::collection::vec(step(10), 1..if cfg!(miri) { 20 } else { 200 })
    ) {
        run(&zone(3, 0), &steps);
    }

    #[test]
    fn a_zone_with_room_agrees_with_the_model(
        steps in prop::collection::vec(step(10), 1..if cfg!(miri) { 20 } else { 300 })
    ) {
        run(&zone(16, 2), &steps);
    }
}
