//! A histogram of latencies with 16 buckets for each power of two: a bucket is at most 6 % wide,
//! and each thread can have a histogram.

use std::time::Duration;

/// Buckets of a power of two.
const BUCKETS_PER_OCTAVE: u64 = 16;

/// A histogram of latencies.
#[derive(Clone, Debug)]
pub struct Latency {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: vec![0; bucket(u64::MAX) + 1], count: 0 }
    }
}

impl Latency {
    /// Counts one request.
    pub fn record(&mut self, took: Duration) {
        self.buckets[bucket(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))] += 1;
        self.count += 1;
    }

    /// Adds the requests that another thread counted.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.count += other.count;
    }

    /// Returns the latency that `percent` of all requests did not exceed, rounded up to the end
    /// of its bucket; zero when nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let wanted = (self.count as f64 * percent / 100.0).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_nanos(upper_end(index as u64));
            }
        }
        Duration::ZERO
    }
}

/// Returns the bucket of a value. Values below 16 have a bucket each; above, the top bit and the
/// four bits after it select the bucket.
fn bucket(nanos: u64) -> usize {
    if nanos < BUCKETS_PER_OCTAVE {
        return nanos as usize;
    }
    let shift = u64::from(nanos.ilog2()) - 4;
    (shift * BUCKETS_PER_OCTAVE + (nanos >> shift)) as usize
}

fn upper_end(index: u64) -> u64 {
    if index < 2 * BUCKETS_PER_OCTAVE {
        return index;
    }
    let shift = index / BUCKETS_PER_OCTAVE - 1;
    ((((index % BUCKETS_PER_OCTAVE) + BUCKETS_PER_OCTAVE + 1) as u128) << shift)
        .saturating_sub(1)
        .min(u64::MAX.into()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in [0, 1, 15, 16, 31, 32, 33, 1000, 123_456, 1 << 40, u64::MAX] {
            let index = bucket(value);
            assert!(value <= upper_end(index as u64), "{value} in {index}");
            assert!(index == 0 || value > upper_end(index as u64 - 1), "{value} in {index}");
        }
    }

    #[test]
    fn percentiles_of_a_known_set_are_right_to_a_bucket() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(50.0), Duration::ZERO);
        for micros in 1..=1000 {
            latency.record(Duration::from_micros(micros));
        }
        let close =
            |found: Duration, micros: f64| (found.as_secs_f64() * 1e6 / micros - 1.0).abs() < 0.07;
        assert!(close(latency.percentile(50.0), 500.0));
        assert!(close(latency.percentile(99.0), 990.0));
        let mut both = latency.clone();
        both.merge(&latency);
        assert_eq!(both.percentile(99.0), latency.percentile(99.0));
    }
}
