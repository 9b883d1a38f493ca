//! The report of an experiment as text and JSON: tables with the original's figures, goals, notes.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::columns::{Align, Columns};
use crate::sizes::{grouped, human};

/// A number of a table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Cell {
    None,
    Count(u64),
    Mean(f64),
    Bytes(u64),
    /// A share of a whole, where 1 is all of it.
    Share(f64),
    Times(f64),
    /// A time in seconds.
    Seconds(f64),
}

/// Rows of numbers with named columns. A `|` in a name starts a new line in the text.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Table {
    title: String,
    #[serde(skip)]
    columns: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    what: String,
    /// The numbers under the names of their columns.
    #[serde(serialize_with = "object")]
    values: Vec<(String, Cell)>,
}

/// A goal for a number.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Criterion {
    what: String,
    #[serde(flatten)]
    bound: Bound,
    measured: Cell,
    /// Whether the goal was met. A number that was not measured does not meet it.
    met: bool,
}

/// A bound, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The report of one experiment.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(super) experiment: &'static str,
    pub(super) title: &'static str,
    /// Setup of the experiment, as names and values.
    #[serde(serialize_with = "object")]
    pub(super) setup: Vec<(&'static str, String)>,
    pub(super) tables: Vec<Table>,
    pub(super) goals: Vec<Criterion>,
    pub(super) notes: Vec<String>,
    /// Pages read back and found equal.
    pub(super) verified_pages: u64,
}

impl Cell {
    /// Converts a share that may be missing.
    pub(super) fn share(share: Option<f64>) -> Self {
        share.map_or(Self::None, Self::Share)
    }

    /// Converts a number of bytes that may be unknown.
    pub(super) fn bytes(bytes: Option<u64>) -> Self {
        bytes.map_or(Self::None, Self::Bytes)
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::None => None,
            // Exact up to 2^53.
            Self::Count(number) | Self::Bytes(number) => Some(number as f64),
            Self::Mean(number) | Self::Share(number) => Some(number),
            Self::Times(number) | Self::Seconds(number) => Some(number),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("-"),
            Self::Count(count) => f.write_str(&grouped(count)),
            Self::Bytes(bytes) => f.write_str(&human(bytes)),
            Self::Share(share) => write!(f, "{:.2} %", share * 100.0),
            Self::Times(times) => write!(f, "{times:.3}x"),
            Self::Mean(mean) => write!(f, "{mean:.1}"),
            Self::Seconds(seconds) if seconds < 1e-5 => write!(f, "{:.0} ns", seconds * 1e9),
            Self::Seconds(seconds) if seconds < 1e-3 => write!(f, "{:.1} us", seconds * 1e6),
            Self::Seconds(seconds) if seconds < 10.0 => write!(f, "{:.1} ms", seconds * 1e3),
            Self::Seconds(seconds) => write!(f, "{seconds:.1} s"),
        }
    }
}

impl Table {
    /// Creates an empty table.
    pub(super) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { title: title.into(), columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, what: impl Into<String>, cells: impl Into<Vec<Cell>>) {
        let names = self.columns.iter().map(|name| name.replace('|', " "));
        self.rows.push(Row { what: what.into(), values: names.zip(cells.into()).collect() });
    }
}

impl Criterion {
    /// Formats the bound in the unit of the measured number.
    fn bound(&self) -> String {
        let (word, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
        };
        let shown = match self.measured {
            // Counts have whole bounds.
            Cell::Count(_) => Cell::Count(bound as u64),
            Cell::Bytes(_) => Cell::Bytes(bound as u64),
            Cell::Mean(_) => Cell::Mean(bound),
            Cell::Times(_) => Cell::Times(bound),
            Cell::Seconds(_) => Cell::Seconds(bound),
            Cell::None | Cell::Share(_) => Cell::Share(bound),
        };
        format!("{word} {shown}")
    }
}

impl Report {
    /// Adds a goal for a measured number.
    pub(super) fn goal(&mut self, what: impl Into<String>, bound: Bound, measured: Cell) {
        let met = measured.number().is_some_and(|number| match bound {
            Bound::AtLeast(least) => number >= least,
            Bound::AtMost(most) => number <= most,
        });
        self.goals.push(Criterion { what: what.into(), bound, measured, met });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let align = [vec![Align::Left], vec![Align::Right; self.columns.len()]].concat();
        let mut table = Columns::new(&align).indented(2);
        // Names with fewer lines stand at the bottom, next to their numbers.
        let lines = self.columns.iter().map(|name| name.split('|').count()).max().unwrap_or(0);
        for line in 0..lines {
            let part = |name: &String| {
                let parts: Vec<&str> = name.split('|').collect();
                let at = (line + parts.len()).checked_sub(lines);
                at.map_or("", |at| parts[at]).to_owned()
            };
            table.row([String::new()].into_iter().chain(self.columns.iter().map(part)));
        }
        for Row { what, values } in &self.rows {
            let cells = values.iter().map(|(_, cell)| cell.to_string());
            table.row([what.clone()].into_iter().chain(cells));
        }
        write!(f, "{}\n{table}", self.title)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.experiment, self.title)?;
        for (name, value) in &self.setup {
            writeln!(f, "  {name}: {value}")?;
        }
        for table in &self.tables {
            write!(f, "\n{table}")?;
        }
        writeln!(f, "\nGoals")?;
        let mut goals = Columns::new(&[Align::Left, Align::Left, Align::Right]).indented(2);
        for goal in &self.goals {
            let verdict = if goal.met { "met" } else { "MISSED" };
            goals.row([&*goal.what, &goal.bound(), &goal.measured.to_string(), verdict]);
        }
        write!(f, "{goals}")?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        let pages = grouped(self.verified_pages);
        writeln!(f, "\n{pages} pages were read back and compared: every byte matched.")
    }
}

/// Serializes pairs as a JSON object that keeps their order.
fn object<N: Serialize, V: Serialize, S: Serializer>(
    pairs: &[(N, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut table = Table::new("Ratios", &["original", "memzip|now"]);
        table.row("after", [Cell::Share(0.7903), Cell::Share(0.9841)]);
        table.row("frames freed", [Cell::Count(15_605), Cell::None]);
        let mut report = Report {
            experiment: "E-1",
            title: "an experiment",
            setup: vec![("seed", "1".into())],
            tables: vec![table],
            goals: Vec::new(),
            notes: vec!["a note".into()],
            verified_pages: 1234,
        };
        report.goal("after", Bound::AtLeast(0.983), Cell::Share(0.9841));
        report.goal("moved again", Bound::AtMost(0.0), Cell::Count(3));
        report.goal("unknown", Bound::AtMost(1.05), Cell::None);
        report
    }

    #[test]
    fn the_text_compares_results_and_shows_missed_goals() {
        let text = report().to_string();
        let has = |parts: &[&str]| {
            let words: Vec<&str> = parts.iter().flat_map(|part| part.split_whitespace()).collect();
            assert!(
                text.lines().any(|line| line.split_whitespace().eq(words.iter().copied())),
                "{parts:?} in\n{text}"
            );
        };
        has(&["memzip"]);
        has(&["original now"]);
        has(&["after 79.03 % 98.41 %"]);
        has(&["frames freed 15,605 -"]);
        has(&["after at least 98.30 % 98.41 % met"]);
        has(&["moved again at most 0 3 MISSED"]);
        has(&["1,234 pages were read back and compared: every byte matched."]);
        let met = report().goals.iter().map(|goal| goal.met).collect::<Vec<_>>();
        assert_eq!(met, [true, false, false]);
    }

    #[test]
    fn the_json_has_the_same_numbers_by_name() {
        let json = serde_json::to_value(report()).expect("JSON");
        assert_eq!(json["tables"][0]["rows"][0]["values"]["memzip now"], 0.9841);
        assert_eq!(json["tables"][0]["rows"][1]["values"]["original"], 15_605);
        assert_eq!(json["tables"][0]["rows"][1]["values"]["memzip now"], serde_json::Value::Null);
        assert_eq!(json["goals"][0]["at_least"], 0.983);
        assert_eq!(
            (&json["goals"][0]["met"], &json["goals"][1]["met"]),
            (&true.into(), &false.into())
        );
        assert_eq!((&json["setup"]["seed"], &json["verified_pages"]), (&"1".into(), &1234.into()));
    }
}
