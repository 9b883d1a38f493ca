//! Random operations on a balloon whose host checks its messages.
//!
//! After each step the host has exactly what the balloon holds, the records agree, the zone
//! is consistent, and the frames of other owners are unchanged.

use std::sync::atomic::Ordering::SeqCst;

use frames::{Isolated, MigrateMode, NoLocksHeld};
use proptest::prelude::*;

use super::*;
use crate::StopReason;

/// Two pageblocks.
const FRAMES: u64 = 1024;

#[derive(Clone, Debug)]
enum Op {
    /// Sets a target, perhaps above the largest possible.
    Target(u64),
    /// Isolates the frame at this index of the list.
    Isolate(prop::sample::Index),
    /// Drops an isolated frame.
    PutBack(prop::sample::Index),
    /// Migrates an isolated frame, unless there is no target frame or the host refuses.
    Migrate(prop::sample::Index),
    /// Another owner allocates up to this many frames.
    Take(u32),
    /// The other owner frees this many.
    Give(u32),
    /// The zone is out of memory and asks its shrinkers.
    Press,
    /// The host refuses the next message.
    Refuse,
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..FRAMES * 5 / 4).prop_map(Op::Target),
        4 => index().prop_map(Op::Isolate),
        2 => index().prop_map(Op::PutBack),
        3 => index().prop_map(Op::Migrate),
        2 => (0..300_u32).prop_map(Op::Take),
        2 => (0..300_u32).prop_map(Op::Give),
        1 => Just(Op::Press),
        1 => Just(Op::Refuse),
    ]
}

/// The state of a run.
struct World<'z> {
    zone: &'z Arc<Zone>,
    balloon: Arc<Balloon>,
    host: Arc<RecordingHost>,
    isolated: Vec<Isolated<'z>>,
    others: Vec<Frame<'z>>,
}

impl<'z> World<'z> {
    fn new(zone: &'z Arc<Zone>, unit: BalloonUnit) -> Self {
        let (balloon, host) = balloon_of(zone, unit);
        Self { zone, balloon, host, isolated: Vec::new(), others: Vec::new() }
    }

    fn target(&mut self, target: u64) {
        let before = self.balloon.stats();
        let refused_before = self.host.refuse.load(SeqCst) > 0;
        let change = self.balloon.set_target(FrameCount(target));
        match change.stop {
            StopReason::Reached => assert_eq!(change.actual, change.target),
            StopReason::NoMemory(_) => assert!(change.actual < change.target, "{change:?}"),
            StopReason::Refused(_) => assert!(refused_before && self.host.refuse.load(SeqCst) == 0),
            StopReason::Isolated { left } => {
                assert_eq!(change.actual.0 - left.0, change.target.0, "{change:?}");
                assert!(before.isolated.0 >= left.0, "{before:?} {change:?}");
            }
            StopReason::Superseded | StopReason::Reentered => {
                panic!("there is no other thread: {change:?}")
            }
        }
        assert_eq!(change.is_capped(), change.target.0 != target);
    }

    fn migrate(&mut self, index: &prop::sample::Index) {
        if self.isolated.is_empty() {
            return;
        }
        let frame = self.isolated.swap_remove(index.index(self.isolated.len()));
        let (pfn, refuses) = (frame.pfn(), self.host.refuse.load(SeqCst) > 0);
        let zone = self.zone;
        let mut batch = vec![frame];
        let report = zone.migrate_pages(&mut batch, &mut |_| one(zone), MigrateMode::Async);
        match (report.migrated, report.failed, report.out_of_frames) {
            (1, 0, false) => assert!(!refuses && !listed(&self.balloon).contains(&pfn)),
            (0, 1, false) => assert!(refuses && listed(&self.balloon).contains(&pfn)),
            (0, 0, true) => assert!(one(zone).is_none()),
            other => panic!("{other:?}"),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Target(target) => self.target(*target),
            Op::Isolate(index) => {
                let list = listed(&self.balloon);
                if !list.is_empty() {
                    let frame = self
                        .zone
                        .isolate(*index.get(&list))
                        .expect("listed frames are not isolated");
                    self.isolated.push(frame);
                }
            }
            Op::PutBack(index) => {
                if !self.isolated.is_empty() {
                    drop(self.isolated.swap_remove(index.index(self.isolated.len())));
                }
            }
            Op::Migrate(index) => self.migrate(index),
            Op::Take(count) => {
                let zone = self.zone;
                self.others.extend((0..*count).map_while(|_| one(zone)));
            }
            Op::Give(count) => {
                let left = self.others.len().saturating_sub(*count as usize);
                self.others.truncate(left);
            }
            Op::Press => {
                let before = self.balloon.stats().actual;
                let freed = self.zone.shrink(FrameCount(1), &NoLocksHeld::promise());
                assert_eq!(self.balloon.stats().actual.0 + freed.0, before.0);
            }
            Op::Refuse => self.host.refuse.store(1, SeqCst),
        }
        self.check();
    }

    fn check(&self) {
        check(&self.balloon, &self.host);
        let stats = self.balloon.stats();
        assert_eq!(self.zone.stats().ballooned, stats.actual);
        assert_eq!(stats.isolated.0, self.isolated.len() as u64);
        assert_eq!(
            self.zone.stats().in_use.0,
            stats.actual.0 + self.others.len() as u64,
            "frames are neither lost nor invented"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// the host has exactly the balloon's frames after every operation.
    #[test]
    fn r158_the_host_has_what_the_balloon_holds(
        blocks in any::<bool>(),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let zone = zone_of(FRAMES, None);
        let unit = if blocks { BalloonUnit::BlocksFirst } else { BalloonUnit::Frames };
        let mut world = World::new(&zone, unit);
        for op in &ops {
            world.apply(op);
        }
        let World { balloon, host, isolated, others, .. } = world;
        drop(isolated);
        host.refuse.store(0, SeqCst);
        prop_assert_eq!(balloon.deflate().stop, StopReason::Reached);
        prop_assert!(host.has().is_empty());
        drop((balloon, others));
        prop_assert_eq!(zone.stats().in_use.0, 0);
        zone.check().expect("consistent");
    }
}
