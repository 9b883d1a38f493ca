//! One promise: what was measured, against what, and whether it was kept.

use serde_json::{Value, json};

use crate::noise::Noise;
pub use crate::samples::Samples;
pub use crate::unit::Unit;

/// What a row must reach.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
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
    /// The interval of what was measured, or the machine's own noise, reaches across the bound.
    TooNoisy,
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
            Self::TooNoisy => "too noisy",
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
    /// What is compared with `reach`, turn by turn.
    compared: Samples,
    reach: Bound,
    /// `Skipped` or `Failed` where nothing was measured.
    without: Option<Verdict>,
    note: String,
    /// Whether it is one of the few that stand for all.
    headline: bool,
}

impl Row {
    /// Ours over a peer's, both measured in this run: the median of the ratios of each turn is
    /// compared.
    pub fn ratio(
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

    /// A number that stands for itself, beside a figure known from elsewhere.
    pub fn value(
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

    /// A row without numbers: `Skipped` or `Failed`, and why.
    pub fn without(what: impl Into<String>, verdict: Verdict, why: impl Into<String>) -> Self {
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

    /// Makes it one of the few rows that stand for all.
    pub fn headline(mut self) -> Self {
        self.headline = true;
        self
    }

    /// Returns whether it is one of the few rows that stand for all.
    pub fn is_headline(&self) -> bool {
        self.headline
    }

    /// States the promise.
    pub fn must(mut self, reach: Bound) -> Self {
        self.reach = reach;
        self
    }

    /// Replaces what is compared, where it is not simply the ratio or the value.
    pub fn comparing(mut self, compared: Samples) -> Self {
        self.compared = compared;
        self
    }

    /// Says more.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Returns how it came out on a machine with this noise.
    ///
    /// Kept or not kept is said only when the whole interval says so.
    pub fn verdict(&self, noise: &Noise) -> Verdict {
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

    /// The least and the most that what is compared may really be.
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

    /// Says still more.
    pub fn add_note(&mut self, note: &str) {
        let gap = if self.note.is_empty() || note.is_empty() { "" } else { "; " };
        self.note = format!("{}{gap}{note}", self.note);
    }

    /// Why, where there is something to say.
    pub fn remark(&self) -> &str {
        &self.note
    }

    /// The cells of the table: what, measured, against, ratio, reach, verdict.
    pub fn cells(&self, noise: &Noise) -> [String; 6] {
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

    /// For programs.
    pub fn json(&self, noise: &Noise) -> Value {
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
        assert_eq!(verdict(&row(9.4)), Verdict::TooNoisy, "though the median is above it");
        assert_eq!(verdict(&row(9.6)), Verdict::TooNoisy, "though the median is below it");
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
            "bytes do not depend on the machine's mood"
        );
    }

    #[test]
    fn a_number_that_is_none_meets_nothing() {
        let row = Row::ratio("x", &samples(&[0.0]), "y", &samples(&[0.0]), Unit::Rate);
        assert_eq!(verdict(&row.clone().must(Bound::AtLeast(0.0))), Verdict::NotMet);
        assert_eq!(verdict(&row.must(Bound::AtMost(9.0))), Verdict::NotMet);
    }
}
