//! Random steps by two owners of movable frames against a model. Whatever is moved, captured or
//! freed, no frame is lost or invented, and every byte is where its owner looks for it.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod driver;
#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "driver/store.rs"]
mod store;
#[path = "driver/tagged.rs"]
mod tagged;

use std::sync::Arc;
use std::time::Duration;

use frames::{
    Block, Budget, CmaRegion, CompactGoal, CompactRequest, ContigRange, ContigRequest, FrameCount,
    Isolated, MigrateMode, MigrateType, Order, PAGEBLOCK_FRAMES, Pfn, Zone,
};
use proptest::prelude::*;
use proptest::sample::Index;

use driver::zones::take;
use driver::{Driver, compacted_block, zone_of_blocks};
use tagged::Tagged;

const BLOCKS: u32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Pages(u16),
    Bytes(u8),
    FreePages(u8),
    FreeBytes(u8),
    Pin(Index),
    Unpin,
    Isolate(Vec<Index>),
    PutBack(u8),
    Migrate,
    Compact(Option<u8>, u16),
    Contig(u16, u16),
    SomeContig(u16),
    Block(u8),
    Release(Index),
    Limit(Option<u16>),
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..700_u16).prop_map(Step::Pages),
        6 => (1..100_u8).prop_map(Step::Bytes),
        6 => any::<u8>().prop_map(Step::FreePages),
        4 => any::<u8>().prop_map(Step::FreeBytes),
        1 => any::<Index>().prop_map(Step::Pin),
        1 => Just(Step::Unpin),
        4 => prop::collection::vec(any::<Index>(), 1..20).prop_map(Step::Isolate),
        2 => any::<u8>().prop_map(Step::PutBack),
        3 => Just(Step::Migrate),
        4 => (prop::option::of(0..=10_u8), 0..300_u16).prop_map(|(order, micros)| Step::Compact(order, micros)),
        5 => (0..3200_u16, 1..1200_u16).prop_map(|(first, frames)| Step::Contig(first, frames)),
        3 => (1..1100_u16).prop_map(Step::SomeContig),
        3 => (0..=10_u8).prop_map(Step::Block),
        6 => any::<Index>().prop_map(Step::Release),
        2 => prop::option::of(0..3300_u16).prop_map(Step::Limit),
        1 => Just(Step::Trim),
    ]
}

/// Frames that the test holds as a whole.
enum Held<'z> {
    Contig(ContigRange<'z>),
    Block(Block<'z>),
}

impl Held<'_> {
    fn frames(&self) -> u64 {
        match self {
            Self::Contig(contig) => contig.frames().0,
            Self::Block(block) => block.order().frames().into(),
        }
    }
}

struct World<'z> {
    zone: &'z Zone,
    driver: Arc<Driver>,
    store: Tagged,
    isolated: Vec<Isolated<'z>>,
    held: Vec<Held<'z>>,
    next: u32,
    /// The most frames in use: the limit, or the frames in use when it was lowered.
    most: u64,
}

impl<'z> World<'z> {
    fn apply(&mut self, step: &Step) {
        let zone = self.zone;
        match step {
            Step::Pages(count) => (0..*count).for_each(|_| {
                // The model counts the frames that exist, so a refusal does not matter.
                let _ = self.driver.take();
            }),
            Step::Bytes(count) => {
                for _ in 0..*count {
                    if self.store.take(self.next).is_ok() {
                        self.next += 1;
                    }
                }
            }
            Step::FreePages(phase) => {
                let tags = self.driver.tags();
                tags.iter()
                    .skip((phase % 3).into())
                    .step_by(3)
                    .for_each(|&tag| self.driver.release(tag));
            }
            Step::FreeBytes(phase) => {
                let tags = self.store.all_tags();
                tags.iter()
                    .skip((phase % 3).into())
                    .step_by(3)
                    .for_each(|&tag| self.store.release(tag));
            }
            Step::Pin(index) if self.driver.frames().0 > 0 => {
                self.driver.pin(*index.get(&self.driver.tags()));
            }
            Step::Pin(_) => {}
            Step::Unpin => self.driver.unpin_all(),
            Step::Isolate(places) => {
                let frames = places
                    .iter()
                    .map(|place| Pfn(place.index((BLOCKS * PAGEBLOCK_FRAMES) as usize) as u32));
                self.isolated.extend(frames.filter_map(|pfn| zone.isolate(pfn)));
            }
            Step::PutBack(keep) => self.isolated.truncate(usize::from(keep % 8)),
            Step::Migrate => {
                let mut fresh = |_| take(zone).ok();
                zone.migrate_pages(&mut self.isolated, &mut fresh, MigrateMode::Async);
            }
            Step::Compact(order, micros) => {
                let goal =
                    order.and_then(Order::new).map_or(CompactGoal::WholeZone, CompactGoal::Block);
                let budget = Budget::within(Duration::from_micros((*micros).into()));
                zone.compact(CompactRequest { goal, budget, ..CompactRequest::default() });
            }
            Step::Contig(first, frames) => {
                let (first, end) =
                    (Pfn((*first).into()), Pfn(u32::from(*first) + u32::from(*frames)));
                self.held.extend(
                    zone.alloc_contig_range(first..end, ContigRequest::default()).map(Held::Contig),
                );
            }
            Step::SomeContig(frames) => {
                let frames = FrameCount((*frames).into());
                self.held.extend(
                    zone.alloc_contig_frames(frames, ContigRequest::default()).map(Held::Contig),
                );
            }
            Step::Block(order) => {
                let order = Order::new(*order).expect("in range");
                let block = compacted_block(zone, order, MigrateType::Unmovable);
                self.held.extend(block.map(Held::Block));
            }
            Step::Release(index) if !self.held.is_empty() => {
                drop(self.held.swap_remove(index.index(self.held.len())))
            }
            Step::Release(_) => {}
            Step::Limit(limit) => {
                let limit = limit.map(|frames| FrameCount(frames.into()));
                self.most = limit.map_or(u64::MAX, |limit| limit.0.max(zone.stats().in_use.0));
                zone.set_limit(limit);
            }
            Step::Trim => zone.trim(),
        }
    }

    fn check(&self, after: &Step) {
        self.zone.check().unwrap_or_else(|error| panic!("after {after:?}: {error}"));
        self.driver.check();
        self.store.check();
        // Isolated frames that their owners have released since.
        let theirs = self.driver.frames().0 + self.store.frames().0;
        let held: u64 = self.held.iter().map(Held::frames).sum();
        let released = self.isolated.iter().filter(|frame| !frame.has_owner()).count() as u64;
        let in_use = self.zone.stats().in_use.0;
        assert_eq!(in_use, theirs + held + released, "after {after:?}");
        assert!(
            in_use <= self.most,
            "after {after:?}: {in_use} frames in use, {} allowed",
            self.most
        );
    }
}

fn run(steps: &[Step], cma: Option<CmaRegion>) {
    let zone = zone_of_blocks(BLOCKS, |config| {
        config.keep_blocks = 1;
        config.cma = cma;
    });
    let (driver, store) = (Driver::new(&zone), Tagged::new(&zone, 8192));
    let mut world = World {
        zone: &zone,
        driver,
        store,
        isolated: Vec::new(),
        held: Vec::new(),
        next: 0,
        most: u64::MAX,
    };
    for step in steps {
        world.apply(step);
        world.check(step);
    }
    world.isolated.clear();
    world.held.clear();
    world.driver.tags().into_iter().for_each(|tag| world.driver.release(tag));
    world.store.all_tags().into_iter().for_each(|tag| world.store.release(tag));
    zone.trim();
    zone.check().expect("an empty zone is consistent");
    let stats = zone.stats();
    assert_eq!(
        (stats.in_use.0, stats.cached.0, stats.committed.0),
        (0, 0, 0),
        "every frame is freed"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 48 }, failure_persistence: None, ..ProptestConfig::default() })]

    ///
    #[test]
    fn r108_no_frame_is_lost_or_invented(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 8 } else { 60 })) {
        run(&steps, None);
    }

    #[test]
    fn r112_no_frame_is_lost_with_a_cma_region(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 8 } else { 60 })) {
        run(&steps, Some(CmaRegion { first: Pfn(2 * PAGEBLOCK_FRAMES), frames: FrameCount((2 * PAGEBLOCK_FRAMES).into()) }));
    }
}
