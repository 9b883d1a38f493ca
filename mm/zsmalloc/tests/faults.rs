//! Random operations with faults: frames isolated for a long time, missing migration targets,
//! lowered limits, readers that stay. After each step the pool and the zone are checked, and
//! every object has the bytes last written.

use std::sync::atomic::{AtomicU64, Ordering};

use frames::{CompactRequest, Frame, FrameCount, Isolated, MigrateMode, Pfn, Zone};
use proptest::prelude::*;
use zsmalloc::{AllocError, Budget, Handle, ObjectRef, Pool, WriteError};

mod support;
use support::{occupy, take};

const FRAMES: u64 = 1024;

#[derive(Clone, Debug)]
enum Op {
    Store(usize, u8),
    Write(prop::sample::Index, u8),
    Free(prop::sample::Index),
    /// Starts to read an object, until `Leave`.
    Enter(prop::sample::Index),
    Leave(prop::sample::Index),
    Isolate(u32),
    /// Migrates all isolated frames, with this many targets.
    Migrate(usize),
    PutBack(prop::sample::Index),
    CompactObjects,
    CompactFrames,
    Limit(u64),
    Trim,
    /// Takes frames, so that the pool's next ones lie above them.
    Occupy(usize),
    /// Frees them, so that compaction moves the pool's frames down.
    Vacate,
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 1usize..4097, 2 => 1500usize..2000, 1 => Just(4096usize)];
    let which = || any::<prop::sample::Index>();
    prop_oneof![
        10 => (len, any::<u8>()).prop_map(|(len, byte)| Op::Store(len, byte)),
        2 => (which(), any::<u8>()).prop_map(|(which, byte)| Op::Write(which, byte)),
        6 => which().prop_map(Op::Free),
        2 => which().prop_map(Op::Enter),
        2 => which().prop_map(Op::Leave),
        8 => (0..FRAMES as u32 / 4).prop_map(Op::Isolate),
        4 => (0..FRAMES as u32).prop_map(Op::Isolate),
        2 => (0usize..6).prop_map(Op::Migrate),
        2 => which().prop_map(Op::PutBack),
        1 => Just(Op::CompactObjects),
        1 => Just(Op::CompactFrames),
        1 => (0u64..200).prop_map(Op::Limit),
        1 => Just(Op::Trim),
        1 => (1..FRAMES as usize * 3 / 4).prop_map(Op::Occupy),
        2 => Just(Op::Vacate),
    ]
}

fn pattern(len: usize, byte: u8) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add(at as u8).wrapping_mul(7)).collect()
}

struct Model<'p> {
    pool: &'p Pool,
    live: Vec<(Handle, Vec<u8>)>,
    reading: Vec<(ObjectRef<'p>, Vec<u8>)>,
    isolated: Vec<Isolated<'p>>,
    /// Frames that the test holds.
    occupied: Vec<Frame<'p>>,
    /// Frames moved by frame compaction.
    moved: u64,
}

impl<'p> Model<'p> {
    fn zone(&self) -> &'p Zone {
        self.pool.zone()
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Store(len, byte) => match self.pool.store(&pattern(len, byte)) {
                Ok(handle) => self.live.push((handle, pattern(len, byte))),
                Err(error) => {
                    assert!(matches!(error, AllocError::Limit | AllocError::NoFrames), "{error}")
                }
            },
            Op::Write(which, byte) if !self.live.is_empty() => {
                let (handle, content) = which.get_mut(&mut self.live);
                let new = pattern(content.len(), byte);
                match self.pool.write(*handle, &new) {
                    Ok(()) => *content = new,
                    // A reader forces a write out of place, and no frame is free: the object is
                    // unchanged.
                    Err(error) => assert!(matches!(error, WriteError::Alloc(_)), "{error}"),
                }
            }
            Op::Free(which) if !self.live.is_empty() => {
                let (handle, content) = self.live.swap_remove(which.index(self.live.len()));
                assert_eq!(self.pool.free(handle), Ok(content.len()));
            }
            Op::Enter(which) if !self.live.is_empty() => {
                let (handle, content) = which.get(&self.live);
                self.reading.push((self.pool.read(*handle).expect("live"), content.clone()));
            }
            Op::Leave(which) if !self.reading.is_empty() => {
                let (object, content) = self.reading.swap_remove(which.index(self.reading.len()));
                assert_eq!(object.to_vec(), content, "a reader's bytes stay unchanged");
            }
            Op::Isolate(number) => self.isolated.extend(self.zone().isolate(Pfn(number))),
            Op::Migrate(targets) => self.migrate(targets),
            Op::PutBack(which) if !self.isolated.is_empty() => {
                drop(self.isolated.swap_remove(which.index(self.isolated.len())));
            }
            Op::CompactObjects => drop(self.pool.compact(&Budget::unlimited()).outcome),
            Op::CompactFrames => {
                self.moved += self.zone().compact(CompactRequest::default()).frames_moved
            }
            Op::Occupy(frames) => self.occupied.extend(occupy(self.zone(), frames)),
            Op::Vacate => self.occupied.clear(),
            Op::Limit(frames) => self.zone().set_limit((frames > 0).then_some(FrameCount(frames))),
            Op::Trim => self.zone().trim(),
            _ => {}
        }
    }

    fn migrate(&mut self, mut targets: usize) {
        let zone = self.zone();
        let mut fresh = |_| {
            targets = targets.checked_sub(1)?;
            take(zone)
        };
        zone.migrate_pages(&mut self.isolated, &mut fresh, MigrateMode::Async);
    }

    /// checks the pool, the zone, and every object.
    fn verify(&self) {
        self.pool.check().expect("the pool is consistent");
        self.zone().check().expect("the zone is consistent");
        assert_eq!(self.zone().isolated(), self.isolated.len() as u64);
        let given_up =
            self.zone().stats().in_use.0 - self.pool.frames() - self.occupied.len() as u64;
        assert!(
            given_up <= self.isolated.len() as u64,
            "a frame is the pool's, or isolated, or free"
        );
        for (handle, content) in &self.live {
            assert_eq!(&self.pool.read(*handle).expect("live").to_vec(), content);
        }
    }
}

#[test]
fn r108_nothing_is_lost_whatever_fails() {
    let moved = AtomicU64::new(0);
    let config = ProptestConfig { cases: 48, ..ProptestConfig::default() };
    proptest!(config, |(ops in proptest::collection::vec(op(), 1..250))| {
        moved.fetch_add(loses_nothing(ops), Ordering::Relaxed);
    });
    assert!(
        moved.into_inner() > 0,
        "frame compaction moved nothing in any case, so the test did not cover it"
    );
}

/// Applies `ops` and checks after each. Returns the number of frames that frame compaction moved.
fn loses_nothing(ops: Vec<Op>) -> u64 {
    let pool = support::pool(FRAMES);
    let zone = pool.zone();
    let (live, reading) = (Vec::new(), Vec::new());
    let mut model =
        Model { pool: &pool, live, reading, isolated: Vec::new(), occupied: Vec::new(), moved: 0 };
    for op in ops {
        model.apply(op);
        // The pool's check takes its chains shared, so it works while readers hold them.
        model.verify();
    }
    let Model { live, reading, isolated, occupied, moved, .. } = model;
    drop((reading, occupied));
    for (handle, content) in &live {
        assert_eq!(pool.free(*handle), Ok(content.len()));
    }
    assert_eq!(pool.frames(), 0);
    drop(isolated);
    assert_eq!(zone.stats().in_use.0, 0);
    zone.check().expect("consistent");
    moved
}
