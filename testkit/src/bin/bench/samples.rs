//! Repeated measurements: their median, and a confidence interval of the median.
//!
//! The interval is the distribution-free interval of order statistics: of `n` sorted samples the
//! `k`-th smallest and the `k`-th largest enclose the true median with a probability that the
//! binomial distribution gives, whatever the distribution of the samples. Run times have long
//! tails, so an interval that assumes a normal distribution would be wrong. A bootstrap needs more
//! than five samples.

use serde_json::{Value, json};
use statrs::distribution::{Binomial, DiscreteCDF};

use crate::unit::Unit;

/// Least confidence of an interval where there are enough samples for it, that is, five.
const CONFIDENCE: f64 = 0.9;

/// Repeated measurements of one quantity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

/// A confidence interval of the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    /// The lower end.
    pub(crate) low: f64,
    /// The upper end.
    pub(crate) high: f64,
    /// Probability that the interval contains the true median.
    pub(crate) confidence: f64,
}

impl Samples {
    /// Returns the samples of a single measurement.
    pub(crate) fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a measurement.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Returns `combine` of each pair of samples of the same turn. When the numbers of turns
    /// differ, combines the two medians.
    ///
    /// A drift of the machine between turns cancels out, because both samples of a pair saw the
    /// same
    /// machine.
    pub(crate) fn paired(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        if self.len() != other.len() {
            return Self::one(combine(self.median(), other.median()));
        }
        Self(self.0.iter().zip(&other.0).map(|(&ours, &theirs)| combine(ours, theirs)).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// Returns the median (of an even number: the mean of the middle two), or 0 without samples.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => 0.0,
            len if len % 2 == 1 => sorted[len / 2],
            len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        }
    }

    /// Returns the narrowest interval with the required confidence, or the smallest and the
    /// largest sample where no interval has it. Returns `None` for fewer than two samples.
    pub(crate) fn interval(&self) -> Option<Interval> {
        let (sorted, len) = (self.sorted(), self.len());
        if len < 2 {
            return None;
        }
        let tails = Binomial::new(0.5, len as u64).ok()?;
        // An interval without the `cut` outer samples of each end misses the median if at most
        // `cut` samples lie on one side of it.
        let confidence = |cut: usize| 1.0 - 2.0 * tails.cdf(cut as u64);
        let cut =
            (0..len.div_ceil(2)).rev().find(|&cut| confidence(cut) >= CONFIDENCE).unwrap_or(0);
        Some(Interval {
            low: sorted[cut],
            high: sorted[len - 1 - cut],
            confidence: confidence(cut),
        })
    }

    /// Returns the number of samples.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the samples as JSON.
    pub(crate) fn json(&self, unit: Unit) -> Value {
        let interval = self.interval();
        json!({
            "median": self.median(),
            "low": interval.map(|interval| interval.low),
            "high": interval.map(|interval| interval.high),
            "confidence": interval.map(|interval| interval.confidence),
            "samples": self.0,
            "unit": unit.name(),
        })
    }

    /// Returns the median and its interval as text.
    pub(crate) fn text(&self, unit: Unit) -> String {
        match self.interval() {
            None => unit.text(self.median()),
            Some(Interval { low, high, .. }) => {
                format!("{} [{}-{}]", unit.text(self.median()), unit.bare(low), unit.bare(high))
            }
        }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn medians_ignore_order_and_outliers() {
        assert_eq!(samples(&[9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(samples(&[4.0, 1.0, 2.0, 900.0]).median(), 3.0);
        assert_eq!(Samples::default().median(), 0.0);
    }

    #[test]
    fn intervals_match_the_tables_of_the_sign_test() {
        // n = 5 needs both extremes (0.9375), n = 8 omits one at each end (0.9297), n = 11 omits
        // two
        // (0.9346).
        let upto = |len: u32| {
            (1..=len).map(f64::from).collect::<Samples>().interval().expect("more than one sample")
        };
        let check = |len, low, high, confidence: f64| {
            let found = upto(len);
            assert_eq!((found.low, found.high), (low, high), "{len} samples");
            assert!(
                (found.confidence - confidence).abs() < 1e-4,
                "{len} samples: {}",
                found.confidence
            );
        };
        check(5, 1.0, 5.0, 0.9375);
        check(8, 2.0, 7.0, 0.9297);
        check(11, 3.0, 9.0, 0.9346);
        // Too few samples for the required confidence: the extremes, with their confidence.
        check(2, 1.0, 2.0, 0.5);
        assert_eq!(samples(&[1.0]).interval(), None);
    }

    #[test]
    fn a_drift_of_the_machine_cancels_out() {
        let ratio = samples(&[10.0, 20.0, 40.0])
            .paired(&samples(&[20.0, 40.0, 80.0]), |ours, theirs| ours / theirs);
        assert_eq!(
            ratio.interval().map(|interval| (interval.low, interval.high)),
            Some((0.5, 0.5))
        );
        let unpaired =
            samples(&[10.0, 20.0]).paired(&Samples::one(30.0), |ours, theirs| ours / theirs);
        assert_eq!((unpaired.median(), unpaired.len()), (0.5, 1));
    }
}
