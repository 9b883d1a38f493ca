//! A histogram of latencies with two significant digits. Each thread can have one.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Significant decimal digits of a latency: a bucket is at most 1 % wide.
const DIGITS: u8 = 2;

/// A histogram of latencies.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("a histogram has at most five digits"))
    }
}

impl Latency {
    /// Counts one request.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.record(nanos).expect("the histogram grows to every value");
    }

    /// Adds the requests that another thread counted.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the histogram grows to every value");
    }

    /// Returns the latency that `percent` of all requests did not exceed, rounded up to the end
    /// of its bucket; zero when nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_set_are_right_to_a_bucket() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(50.0), Duration::ZERO);
        for micros in 1..=1000 {
            latency.record(Duration::from_micros(micros));
        }
        let close =
            |found: Duration, micros: f64| (found.as_secs_f64() * 1e6 / micros - 1.0).abs() < 0.01;
        assert!(close(latency.percentile(50.0), 500.0));
        assert!(close(latency.percentile(99.0), 990.0));
        latency.record(Duration::from_secs(1 << 20));
        let mut both = latency.clone();
        both.merge(&latency);
        assert_eq!(both.percentile(99.0), latency.percentile(99.0));
    }
}
