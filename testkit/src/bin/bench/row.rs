//! One promise: what was measured, against what, and whether it was kept.

use serde_json::{Value, json};

/// Repeated measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One measurement.
    pub fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle one (the mean of the middle two); 0 when there is none.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => 0.0,
            len if len % 2 == 1 => sorted[len / 2],
            len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        }
    }

    /// The smallest and the largest.
    pub fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn json(&self, unit: Unit) -> Value {
        let (min, max) = self.range();
        json!({ "median": self.median(), "min": min, "max": max, "samples": self.len(), "unit": unit.name() })
    }

    fn text(&self, unit: Unit) -> String {
        let (min, max) = self.range();
        if self.len() < 2 {
            return unit.text(self.median());
        }
        format!("{} [{}-{}]", unit.text(self.median()), unit.bare(min), unit.bare(max))
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Operations a second.
    Rate,
    /// Bytes, shown in MiB.
    Bytes,
    /// Seconds, shown in microseconds.
    Seconds,
    /// A plain number between 0 and about 1.
    Share,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Rate => "operations per second",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Share => "share",
        }
    }

    fn bare(self, value: f64) -> String {
        match self {
            Self::Rate => format!("{:.1}", value / 1e3),
            Self::Bytes => format!("{:.1}", value / f64::from(1 << 20)),
            Self::Seconds => format!("{:.1}", value * 1e6),
            Self::Share => format!("{value:.4}"),
        }
    }

    fn text(self, value: f64) -> String {
        let suffix = match self {
            Self::Rate => " k/s",
            Self::Bytes => " MiB",
            Self::Seconds => " us",
            Self::Share => "",
        };
        self.bare(value) + suffix
    }
}

/// What a row must reach.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// At least this.
    Least(f64),
    /// At most this.
    Most(f64),
    /// Nothing: the row is there to be read.
    Info,
}

/// How a row came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise was kept.
    Met,
    /// It was not.
    NotMet,
    /// There was none.
    Info,
    /// It could not be measured on this machine.
    Skipped,
    /// Measuring it went wrong.
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "NOT MET",
            Self::Info => "-",
            Self::Skipped => "SKIPPED",
            Self::Failed => "FAILED",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Row {
    what: String,
    measured: Option<(Samples, Unit)>,
    against: String,
    peer: Option<(Samples, Unit)>,
    /// The number that is compared with `reach`.
    compared: f64,
    reach: Reach,
    verdict: Verdict,
    note: String,
}

impl Row {
    /// Ours over a peer's, both measured in this run: the ratio of the medians is compared.
    pub fn ratio(
        what: impl Into<String>,
        ours: &Samples,
        against: impl Into<String>,
        peer: &Samples,
        unit: Unit,
    ) -> Self {
        let compared = ours.median() / peer.median();
        Self {
            what: what.into(),
            measured: Some((ours.clone(), unit)),
            against: against.into(),
            peer: Some((peer.clone(), unit)),
            compared,
            reach: Reach::Info,
            verdict: Verdict::Info,
            note: String::new(),
        }
    }

    /// A number that stands for itself, beside a figure known from elsewhere.
    pub fn value(what: impl Into<String>, ours: &Samples, against: impl Into<String>, unit: Unit) -> Self {
        Self {
            what: what.into(),
            measured: Some((ours.clone(), unit)),
            against: against.into(),
            peer: None,
            compared: ours.median(),
            reach: Reach::Info,
            verdict: Verdict::Info,
            note: String::new(),
        }
    }

    /// A row without numbers: `Skipped` or `Failed`, and why.
    pub fn without(what: impl Into<String>, verdict: Verdict, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            measured: None,
            against: String::new(),
            peer: None,
            compared: f64::NAN,
            reach: Reach::Info,
            verdict,
            note: why.into(),
        }
    }

    /// Judges the row.
    pub fn must(mut self, reach: Reach) -> Self {
        self.reach = reach;
        let kept = match reach {
            Reach::Least(least) => self.compared >= least,
            Reach::Most(most) => self.compared <= most,
            Reach::Info => return self,
        };
        self.verdict = if kept { Verdict::Met } else { Verdict::NotMet };
        self
    }

    /// Replaces the compared number, where it is not simply the ratio or the value.
    pub fn comparing(mut self, compared: f64) -> Self {
        self.compared = compared;
        self
    }

    /// Says more.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// How it came out.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Why, where there is something to say.
    pub fn remark(&self) -> &str {
        &self.note
    }

    /// The cells of the table: what, measured, against, ratio, reach, verdict.
    pub fn cells(&self) -> [String; 6] {
        let against = match &self.peer {
            Some((peer, unit)) => format!("{}: {}", self.against, peer.text(*unit)),
            None => self.against.clone(),
        };
        let reach = match self.reach {
            Reach::Least(least) => format!(">= {least}"),
            Reach::Most(most) => format!("<= {most}"),
            Reach::Info => String::new(),
        };
        let ratio = if self.compared.is_finite() { format!("{:.3}", self.compared) } else { String::new() };
        let measured = self.measured.as_ref().map_or_else(String::new, |(ours, unit)| ours.text(*unit));
        [self.what.clone(), measured, against, ratio, reach, self.verdict.word().to_owned()]
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let samples = |set: &Option<(Samples, Unit)>| set.as_ref().map(|(samples, unit)| samples.json(*unit));
        let (bound, reach) = match self.reach {
            Reach::Least(least) => (Some("at least"), Some(least)),
            Reach::Most(most) => (Some("at most"), Some(most)),
            Reach::Info => (None, None),
        };
        json!({
            "what": self.what,
            "measured": samples(&self.measured),
            "against": self.against,
            "peer": samples(&self.peer),
            "compared": self.compared.is_finite().then_some(self.compared),
            "bound": bound,
            "reach": reach,
            "verdict": self.verdict.word(),
            "note": self.note,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    #[test]
    fn medians_ignore_order_and_outliers() {
        assert_eq!(samples(&[9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(samples(&[4.0, 1.0, 2.0, 900.0]).median(), 3.0);
        assert_eq!(samples(&[9.0, 1.0, 2.0]).range(), (1.0, 9.0));
        assert_eq!(Samples::default().median(), 0.0);
    }

    #[test]
    fn a_row_is_judged_by_its_bound() {
        let row = || Row::ratio("x", &samples(&[9.0]), "y", &samples(&[10.0]), Unit::Rate);
        assert_eq!(row().verdict(), Verdict::Info);
        assert_eq!(row().must(Reach::Least(0.9)).verdict(), Verdict::Met);
        assert_eq!(row().must(Reach::Least(0.91)).verdict(), Verdict::NotMet);
        assert_eq!(row().must(Reach::Most(0.9)).verdict(), Verdict::Met);
        assert_eq!(row().comparing(2.0).must(Reach::Most(0.9)).verdict(), Verdict::NotMet);
    }

    #[test]
    fn a_number_that_is_none_meets_nothing() {
        let row = Row::ratio("x", &samples(&[0.0]), "y", &samples(&[0.0]), Unit::Rate);
        assert_eq!(row.clone().must(Reach::Least(0.0)).verdict(), Verdict::NotMet);
        assert_eq!(row.must(Reach::Most(9.0)).verdict(), Verdict::NotMet);
    }
}
