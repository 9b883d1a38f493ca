//! Random orders that a seed fixes.

use fastrand::Rng;

/// Returns the numbers `0..len` in the random order of this seed.
#[must_use]
pub fn permutation(len: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len).collect();
    Rng::with_seed(seed).shuffle(&mut order);
    order
}
