//! Random choices, which the seed of an experiment fixes.

use fastrand::Rng;

/// Returns the numbers `0..len` in random order.
pub(super) fn permutation(rng: &mut Rng, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    rng.shuffle(&mut order);
    order
}

/// Returns `percent` of the numbers `0..len`, chosen at random, in random order.
pub(super) fn choose(rng: &mut Rng, len: usize, percent: usize) -> Vec<usize> {
    let mut chosen = permutation(rng, len);
    chosen.truncate(len * percent / 100);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_a_choice_of_different_numbers() {
        let choose = |seed| choose(&mut Rng::with_seed(seed), 10_000, 60);
        assert_eq!(choose(1), choose(1));
        assert_ne!(choose(1), choose(2));
        let mut chosen = choose(1);
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 6000);
    }
}
