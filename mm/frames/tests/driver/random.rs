//! Random numbers that a seed repeats.

/// Returns the random number after `state`. Its upper half is random, the lower one is not.
pub(crate) fn random(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}
