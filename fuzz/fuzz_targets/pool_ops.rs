//! Runs random pool operations, compares the pool with a map and calls `check()` (R-298, R-339,
//!
//!
//! The first two bytes of the input choose the pool's configuration. Then each operation is one
//! byte and its operands. Every input is valid, so the fuzzer spends no time on rejected ones.

#![no_main]

use std::sync::Arc;

use frames::{FrameCount, Zone, ZoneConfig};
use libfuzzer_sys::fuzz_target;
use sys::Backing;
use zsmalloc::{
    AccessError, AllocError, Budget, ChainRule, Handle, ObjectRef, Pool, PoolConfig, WriteError,
};

/// The rest of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Takes a number below `end`, or 0 if `end` is 0.
    fn below(&mut self, end: usize) -> Option<usize> {
        let number = usize::from(self.byte()?) << 8 | usize::from(self.byte()?);
        Some(number % end.max(1))
    }
}

/// Takes the configuration of the pool and creates it over a small zone.
fn pool(input: &mut Input<'_>) -> Option<Arc<Pool>> {
    let chain = input.byte()? % 16 + 1;
    let rule = if input.byte()? % 2 == 0 { ChainRule::LeastWaste } else { ChainRule::UsedPercent };
    let zone =
        ZoneConfig { capacity: FrameCount(512), backing: Backing::Heap, ..ZoneConfig::default() };
    let config = PoolConfig {
        chain,
        rule,
        max_objects: Some(4096),
        backing: Backing::Heap,
        ..PoolConfig::default()
    };
    Some(Pool::new(Arc::new(Zone::new(zone).expect("a small zone")), config).expect("a small pool"))
}

fn content(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| seed ^ (at as u8).wrapping_mul(31)).collect()
}

/// Runs the operations of the input, then checks that the pool is consistent and frees
/// everything.
fn run(mut input: Input<'_>) -> Option<()> {
    let pool = pool(&mut input)?;
    let mut live: Vec<(Handle, Vec<u8>)> = Vec::new();
    let mut stale: Vec<Handle> = Vec::new();
    let mut readers: Vec<(ObjectRef<'_>, Vec<u8>)> = Vec::new();
    while let Some(op) = input.byte() {
        match op % 12 {
            // Store an object.
            0..=3 => {
                let (seed, len) = (input.byte()?, input.below(4200)?);
                match pool.store(&content(seed, len)) {
                    Ok(handle) => live.push((handle, content(seed, len))),
                    Err(AllocError::Size { .. }) => assert!(len == 0 || len > 4096),
                    Err(error) => {
                        assert!(matches!(
                            error,
                            AllocError::Limit | AllocError::NoFrames | AllocError::Numbers
                        ))
                    }
                }
            }
            // Free an object.
            4 | 5 if !live.is_empty() => {
                let (handle, bytes) = live.swap_remove(input.below(live.len())?);
                assert_eq!(pool.free(handle), Ok(bytes.len()));
                stale.push(handle);
            }
            // Write an object.
            6 if !live.is_empty() => {
                let at = input.below(live.len())?;
                let (seed, (handle, bytes)) = (input.byte()?, &mut live[at]);
                match pool.write(*handle, &content(seed, bytes.len())) {
                    Ok(()) => *bytes = content(seed, bytes.len()),
                    Err(error) => assert!(matches!(error, WriteError::Alloc(_)), "{error}"),
                }
            }
            // Start to read an object.
            7 if !live.is_empty() => {
                let (handle, bytes) = &live[input.below(live.len())?];
                readers.push((pool.read(*handle).expect("live"), bytes.clone()));
            }
            // Finish all reads.
            8 => {
                for (reader, bytes) in readers.drain(..) {
                    assert_eq!(reader.to_vec(), bytes, "a reader keeps its bytes");
                }
            }
            // Compact objects, then frames.
            9 => {
                pool.compact(&Budget::unlimited());
                pool.zone().compact(frames::CompactRequest::default());
            }
            // Change the limit of the zone.
            10 => {
                let frames = input.below(400)? as u64;
                pool.zone().set_limit((frames > 0).then_some(FrameCount(frames)));
            }
            // Read through an arbitrary handle, and free through stale ones.
            11 => {
                let mut bits = [0; 8];
                bits.iter_mut().for_each(|byte| *byte = input.byte().unwrap_or(0));
                let handle = Handle::from_bits(u64::from_le_bytes(bits));
                let expected =
                    live.iter().find(|(known, _)| *known == handle).map(|(_, bytes)| bytes.clone());
                assert_eq!(pool.read(handle).map(|object| object.to_vec()).ok(), expected);
                for &handle in &stale {
                    assert_eq!(pool.free(handle), Err(AccessError::Stale));
                }
            }
            _ => {}
        }
    }
    // The pool is consistent, and every live object has its content.
    readers.clear();
    pool.check().expect("consistent");
    for (handle, bytes) in live {
        assert_eq!(pool.read(handle).expect("live").to_vec(), bytes);
        pool.free(handle).expect("live");
    }
    assert_eq!(pool.frames(), 0);
    pool.check().expect("consistent");
    pool.zone().check().expect("consistent");
    Some(())
}

fuzz_target!(|data: &[u8]| {
    run(Input(data));
});
