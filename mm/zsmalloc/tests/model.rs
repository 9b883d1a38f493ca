//! Random operations on a pool and a map that it must agree with, with `check()` after each step.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use frames::{Frame, FrameCount};
use proptest::prelude::*;
use zsmalloc::{AccessError, AllocError, Budget, ChainRule, Handle, MapMode, Pool, PoolConfig};

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;
use support::{occupy, pool_in, zone};

#[derive(Clone, Debug)]
enum Op {
    Store(usize, u8),
    Malloc(usize),
    Write(prop::sample::Index, u8),
    Map(prop::sample::Index, u8),
    Free(prop::sample::Index),
    FreeStale(prop::sample::Index),
    Compact,
    Limit(u64),
    /// Takes frames, so that the pool's next ones lie above them.
    Occupy(usize),
    /// Frees them, so that compaction moves the pool's frames down.
    Vacate,
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 1usize..4097, 2 => 1500usize..2000, 1 => Just(4096usize), 1 => 3800usize..3900];
    prop_oneof![
        10 => (len.clone(), any::<u8>()).prop_map(|(len, byte)| Op::Store(len, byte)),
        1 => len.prop_map(Op::Malloc),
        2 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(which, byte)| Op::Write(which, byte)),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(which, byte)| Op::Map(which, byte)),
        6 => any::<prop::sample::Index>().prop_map(Op::Free),
        1 => any::<prop::sample::Index>().prop_map(Op::FreeStale),
        1 => Just(Op::Compact),
        1 => (0u64..300).prop_map(Op::Limit),
        1 => (1usize..900).prop_map(Op::Occupy),
        2 => Just(Op::Vacate),
    ]
}

fn pool(chain: u8, rule: ChainRule) -> Arc<Pool> {
    pool_in(&zone(1024), PoolConfig { chain, rule, ..PoolConfig::default() })
}

fn pattern(len: usize, byte: u8) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add(at as u8).wrapping_mul(7)).collect()
}

/// The pool, and the map it must agree with.
struct Model<'p> {
    pool: &'p Pool,
    live: Vec<(Handle, Vec<u8>)>,
    stale: Vec<Handle>,
    /// Frames that the test holds.
    occupied: Vec<Frame<'p>>,
    /// Frames moved by frame compaction.
    moved: u64,
}

impl Model<'_> {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Store(len, byte) => {
                self.added(self.pool.store(&pattern(len, byte)), pattern(len, byte))
            }
            Op::Malloc(len) => self.added(self.pool.malloc(len), vec![0; len]),
            Op::Write(which, byte) if !self.live.is_empty() => {
                let (handle, content) = which.get_mut(&mut self.live);
                *content = pattern(content.len(), byte);
                self.pool
                    .write(*handle, content)
                    .expect("no thread reads it, so it is written in place");
            }
            Op::Map(which, byte) if !self.live.is_empty() => {
                let (handle, content) = which.get_mut(&mut self.live);
                let mut mapped = self.pool.map(*handle, MapMode::ReadWrite).expect("live");
                assert_eq!(&*mapped, &content[..]);
                mapped[0] = byte;
                content[0] = byte;
                mapped.unmap().expect("no thread reads it, so it is written in place");
            }
            Op::Free(which) if !self.live.is_empty() => {
                let (handle, content) = self.live.swap_remove(which.index(self.live.len()));
                assert_eq!(self.pool.free(handle), Ok(content.len()));
                self.stale.push(handle);
            }
            Op::FreeStale(which) if !self.stale.is_empty() => {
                let handle = self.stale[which.index(self.stale.len())];
                assert_eq!(self.pool.free(handle), Err(AccessError::Stale));
                assert_eq!(self.pool.read(handle).err(), Some(AccessError::Stale));
            }
            Op::Compact => {
                self.pool.compact(&Budget::unlimited());
                self.moved +=
                    self.pool.zone().compact(frames::CompactRequest::default()).frames_moved;
            }
            Op::Occupy(frames) => self.occupied.extend(occupy(self.pool.zone(), frames)),
            Op::Vacate => self.occupied.clear(),
            Op::Limit(frames) => {
                self.pool.zone().set_limit((frames > 0).then_some(FrameCount(frames)))
            }
            _ => {}
        }
    }

    fn added(&mut self, result: Result<Handle, AllocError>, content: Vec<u8>) {
        match result {
            Ok(handle) => self.live.push((handle, content)),
            Err(error) => {
                assert!(matches!(error, AllocError::Limit | AllocError::NoFrames), "{error}")
            }
        }
    }

    fn verify(&self) {
        self.pool.check().expect("consistent");
        let stats = self.pool.stats();
        assert_eq!(stats.objects as usize, self.live.len());
        assert_eq!(
            stats.live_bytes as usize,
            self.live.iter().map(|(_, content)| content.len()).sum::<usize>()
        );
        assert_eq!(stats.live_bytes + stats.rounding_bytes + stats.hole_bytes, stats.frames * 4096);
        assert_eq!(stats.frames + self.occupied.len() as u64, self.pool.zone().stats().in_use.0);
    }
}

/// after any sequence of operations, every object has the bytes last
/// written.
#[test]
fn r298_pool_agrees_with_a_map() {
    let moved = AtomicU64::new(0);
    let config = ProptestConfig { cases: 64, ..ProptestConfig::default() };
    proptest!(config, |(ops in proptest::collection::vec(op(), 1..300), chain in 1u8..17, old_rule: bool)| {
        let rule = if old_rule { ChainRule::UsedPercent } else { ChainRule::LeastWaste };
        moved.fetch_add(agrees(ops, &pool(chain, rule)), Ordering::Relaxed);
    });
    assert!(
        moved.into_inner() > 0,
        "frame compaction moved nothing in any case, so the test did not cover it"
    );
}

/// Applies `ops` and checks after each. Returns the number of frames that frame compaction moved.
fn agrees(ops: Vec<Op>, pool: &Pool) -> u64 {
    let mut model =
        Model { pool, live: Vec::new(), stale: Vec::new(), occupied: Vec::new(), moved: 0 };
    for op in ops {
        model.apply(op);
        model.verify();
    }
    for (handle, content) in &model.live {
        assert_eq!(&pool.read(*handle).expect("live").to_vec(), content);
    }
    for (handle, _) in std::mem::take(&mut model.live) {
        pool.free(handle).expect("live");
    }
    // when every handle is freed, no frame is left.
    assert_eq!(pool.frames(), 0);
    pool.check().expect("consistent");
    model.moved
}

/// L-11: no generation is used twice, so a stale handle stays stale forever.
#[test]
fn r289_a_handle_is_never_returned_twice() {
    let pool = pool(16, ChainRule::LeastWaste);
    let mut seen = HashMap::new();
    for round in 0..20_000 {
        let handle = pool.store(&[1; 100]).expect("room");
        assert_eq!(seen.insert(handle.to_bits(), round), None);
        pool.free(handle).expect("live");
    }
}

/// R-289, L-11: the index of a freed object is reused, and the old handle does not reach the new
/// object.
#[test]
fn r289_a_stale_handle_stays_stale() {
    let pool = pool(16, ChainRule::LeastWaste);
    let mut reused = 0;
    for round in 0..100 {
        let old = pool.store(&[1; 100]).expect("room");
        pool.free(old).expect("live");
        let new = pool.store(&[2; 100]).expect("room");
        // The low half of a handle is its index.
        reused += u32::from(old.to_bits() as u32 == new.to_bits() as u32);
        assert!(
            pool.read(old).is_err() && pool.free(old).is_err(),
            "round {round}: a handle that was freed"
        );
        assert_eq!(pool.read(new).expect("live").to_vec(), [2; 100]);
        pool.free(new).expect("live");
    }
    assert!(reused > 0, "no index was used again, so the test did not cover reuse");
}
