//! A row of the report: a measurement, its peer, and whether its bound is met.

use std::error::Error;

use serde_json::{Value, json};

use crate::noise::Noise;
pub(crate) use crate::samples::Samples;
pub(crate) use crate::unit::Unit;

/// The rows of a group of measurements.
pub(crate) type GroupResult = Result<Vec<Row>, Box<dyn Error>>;

/// The bound of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// The value must be at least this.
    AtLeast(f64),
    /// The value must be at most this.
    AtMost(f64),
    /// There is no bound: the row is for information.
    Info,
}

/// The result of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The bound is met.
    Met,
    /// The bound is not met.
    NotMet,
    /// The interval of the measurement, or the machine's noise, contains the bound.
    TooNoisy,
    /// The row has no bound.
    Info,
    /// The row cannot be measured on this machine.
    Skipped,
    /// Measuring the row failed.
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "NOT MET",
            Self::TooNoisy => "too noisy",
            Self::Info => "-",
            Self::Skipped => "SKIPPED",
            Self::Failed => "FAILED",
        }
    }
}

/// A row of the report.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: String,
    measured: Option<(Samples, Unit)>,
    against: String,
    peer: Option<(Samples, Unit)>,
    /// The values that are compared with the bound, one for each turn.
    compared: Samples,
    reach: Bound,
    /// `Skipped` or `Failed` for a row without a measurement.
    without: Option<Verdict>,
    note: String,
    /// Whether the row is one of the few in the README.
    headline: bool,
}

impl Row {
    /// Creates a row of a ratio, memzip's value over a peer's. Both were measured in this run;
    /// the median of the turns' ratios is compared.
    pub(crate) fn ratio(
        what: impl Into<String>,
        ours: &Samples,
        against: impl Into<String>,
        peer: &Samples,
        unit: Unit,
    ) -> Self {
        let compared = ours.paired(peer, |ours, peer| ours / peer);
        Self {
            what: what.into(),
            measured: Some((ours.clone(), unit)),
            against: against.into(),
            peer: Some((peer.clone(), unit)),
            compared,
            reach: Bound::Info,
            without: None,
            note: String::new(),
            headline: false,
        }
    }

    /// Creates a row of one value, beside a figure that was not measured in this run.
    pub(crate) fn value(
        what: impl Into<String>,
        ours: &Samples,
        against: impl Into<String>,
        unit: Unit,
    ) -> Self {
        Self {
            what: what.into(),
            measured: Some((ours.clone(), unit)),
            against: against.into(),
            peer: None,
            compared: ours.clone(),
            reach: Bound::Info,
            without: None,
            note: String::new(),
            headline: false,
        }
    }

    /// Creates a row without numbers, `Skipped` or `Failed`, and the reason.
    pub(crate) fn without(
        what: impl Into<String>,
        verdict: Verdict,
        why: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            measured: None,
            against: String::new(),
            peer: None,
            compared: Samples::default(),
            reach: Bound::Info,
            without: Some(verdict),
            note: why.into(),
            headline: false,
        }
    }

    /// Makes the row one of the few in the README.
    pub(crate) fn headline(mut self) -> Self {
        self.headline = true;
        self
    }

    /// Returns whether the row is one of the few in the README.
    pub(crate) fn is_headline(&self) -> bool {
        self.headline
    }

    /// Sets the bound.
    pub(crate) fn must(mut self, reach: Bound) -> Self {
        self.reach = reach;
        self
    }

    /// Replaces the values that are compared with the bound. The default is the ratio or the
    /// value.
    pub(crate) fn comparing(mut self, compared: Samples) -> Self {
        self.compared = compared;
        self
    }

    /// Sets the note.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Returns the verdict on a machine with this noise.
    ///
    /// The row is met or not met only if its whole interval is on that side of the bound.
    pub(crate) fn verdict(&self, noise: &Noise) -> Verdict {
        if let Some(verdict) = self.without {
            return verdict;
        }
        let (low, high) = self.extremes(noise);
        let kept = |value: f64| match self.reach {
            Bound::AtLeast(least) => value >= least,
            Bound::AtMost(most) => value <= most,
            Bound::Info => true,
        };
        match (self.reach, kept(low), kept(high)) {
            (Bound::Info, ..) => Verdict::Info,
            (_, true, true) => Verdict::Met,
            (_, false, false) => Verdict::NotMet,
            _ => Verdict::TooNoisy,
        }
    }

    /// Returns the interval that contains the true value, widened by the noise of a timed row.
    fn extremes(&self, noise: &Noise) -> (f64, f64) {
        let (median, found) = (self.compared.median(), self.compared.interval());
        let (mut low, mut high) = found.map_or((median, median), |found| (found.low, found.high));
        if self.measured.as_ref().is_some_and(|(_, unit)| unit.is_timed()) {
            let noise = noise.interval();
            low = low.min(median * noise.low);
            high = high.max(median * noise.high);
        }
        (low, high)
    }

    /// Appends to the note.
    pub(crate) fn add_note(&mut self, note: &str) {
        let gap = if self.note.is_empty() || note.is_empty() { "" } else { "; " };
        self.note = format!("{}{gap}{note}", self.note);
    }

    /// Returns the note.
    pub(crate) fn remark(&self) -> &str {
        &self.note
    }

    /// Returns the cells of the table: what, measured, against, ratio, bound, verdict.
    pub(crate) fn cells(&self, noise: &Noise) -> [String; 6] {
        let against = match &self.peer {
            Some((peer, unit)) => format!("{}: {}", self.against, peer.text(*unit)),
            None => self.against.clone(),
        };
        let reach = match self.reach {
            Bound::AtLeast(least) => format!(">= {least}"),
            Bound::AtMost(most) => format!("<= {most}"),
            Bound::Info => String::new(),
        };
        let ratio = match (self.compared.median(), self.compared.interval()) {
            _ if self.compared.len() == 0 => String::new(),
            (median, Some(found)) => format!("{median:.3} [{:.3}-{:.3}]", found.low, found.high),
            (median, None) => format!("{median:.3}"),
        };
        let measured =
            self.measured.as_ref().map_or_else(String::new, |(ours, unit)| ours.text(*unit));
        [self.what.clone(), measured, against, ratio, reach, self.verdict(noise).word().to_owned()]
    }

    /// Returns the row as JSON.
    pub(crate) fn json(&self, noise: &Noise) -> Value {
        let samples =
            |set: &Option<(Samples, Unit)>| set.as_ref().map(|(samples, unit)| samples.json(*unit));
        let (bound, reach) = match self.reach {
            Bound::AtLeast(least) => (Some("at least"), Some(least)),
            Bound::AtMost(most) => (Some("at most"), Some(most)),
            Bound::Info => (None, None),
        };
        json!({
            "what": self.what,
            "measured": samples(&self.measured),
            "against": self.against,
            "peer": samples(&self.peer),
            "compared": self.compared.json(Unit::Share),
            "bound": bound,
            "reach": reach,
            "verdict": self.verdict(noise).word(),
            "note": self.note,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    fn verdict(row: &Row) -> Verdict {
        row.verdict(&Noise::default())
    }

    #[test]
    fn a_row_is_judged_by_its_bound() {
        let row = || Row::ratio("x", &samples(&[9.0]), "y", &samples(&[10.0]), Unit::Rate);
        assert_eq!(verdict(&row()), Verdict::Info);
        assert_eq!(verdict(&row().must(Bound::AtLeast(0.9))), Verdict::Met);
        assert_eq!(verdict(&row().must(Bound::AtLeast(0.91))), Verdict::NotMet);
        assert_eq!(verdict(&row().must(Bound::AtMost(0.9))), Verdict::Met);
        assert_eq!(
            verdict(&row().comparing(Samples::one(2.0)).must(Bound::AtMost(0.9))),
            Verdict::NotMet
        );
        assert_eq!(
            verdict(&Row::without("x", Verdict::Skipped, "y").must(Bound::AtLeast(0.0))),
            Verdict::Skipped
        );
    }

    #[test]
    fn a_bound_inside_the_interval_is_too_noisy() {
        let ours = samples(&[8.0, 9.0, 9.5, 10.0, 11.0]);
        let row = |least| Row::value("x", &ours, "y", Unit::Count).must(Bound::AtLeast(least));
        assert_eq!(verdict(&row(7.9)), Verdict::Met);
        assert_eq!(verdict(&row(9.4)), Verdict::TooNoisy, "the median is above the bound");
        assert_eq!(verdict(&row(9.6)), Verdict::TooNoisy, "the median is below the bound");
        assert_eq!(verdict(&row(11.1)), Verdict::NotMet);
    }

    #[test]
    fn times_are_judged_no_finer_than_the_noise() {
        let noise = Noise::of(samples(&[0.96, 0.98, 1.0, 1.02, 1.05]));
        let row = |unit, least| {
            Row::value("x", &Samples::one(100.0), "y", unit).must(Bound::AtLeast(least))
        };
        assert_eq!(row(Unit::Rate, 97.0).verdict(&noise), Verdict::TooNoisy);
        assert_eq!(row(Unit::Rate, 104.0).verdict(&noise), Verdict::TooNoisy);
        assert_eq!(row(Unit::Rate, 94.0).verdict(&noise), Verdict::Met);
        assert_eq!(row(Unit::Rate, 106.0).verdict(&noise), Verdict::NotMet);
        assert_eq!(
            row(Unit::Bytes, 100.0).verdict(&noise),
            Verdict::Met,
            "noise does not widen a row of bytes"
        );
    }

    #[test]
    fn a_ratio_of_zeros_meets_no_bound() {
        let row = Row::ratio("x", &samples(&[0.0]), "y", &samples(&[0.0]), Unit::Rate);
        assert_eq!(verdict(&row.clone().must(Bound::AtLeast(0.0))), Verdict::NotMet);
        assert_eq!(verdict(&row.must(Bound::AtMost(9.0))), Verdict::NotMet);
    }
}
