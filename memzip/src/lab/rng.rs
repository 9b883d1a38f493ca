//! Seeded random numbers, so that an experiment can be repeated on any machine.

/// The generator splitmix64 by Vigna.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// Creates the generator of the sequence of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The high half of a 64 by 64 bit product: as uniform as 64 bits allow.
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Returns the numbers `0..len` in random order.
    pub(super) fn permutation(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    /// Returns `percent` of the numbers `0..len`, chosen at random.
    pub(super) fn choose(&mut self, len: usize, percent: usize) -> Vec<usize> {
        let mut chosen = self.permutation(len);
        chosen.truncate(len * percent / 100);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn a_seed_gives_one_choice_spread_evenly() {
        let choose = |seed| Rng::new(seed).choose(10_000, 60);
        assert_eq!(choose(1), choose(1));
        assert_ne!(choose(1), choose(2));
        let mut chosen = choose(1);
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 6000);
        let low = chosen.iter().filter(|&&page| page < 5000).count();
        assert!((2800..3200).contains(&low), "{low} of 6000 in the lower half");
        assert_eq!(Rng::new(3).below(0), 0);
    }
}
