//! The report: a table for the terminal, the same table as Markdown, and a JSON file.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::noise::Noise;
use crate::row::{Row, Verdict};
use crate::samples::Samples;
use crate::unit::Unit;

/// The heads of the table's columns.
const HEAD: [&str; 6] = ["what", "measured", "against", "compared", "goal", "met?"];

/// The results of one run.
pub(crate) struct Report {
    /// The machine that was measured.
    pub(crate) machine: Value,
    /// The statistics of the pages, one line for each kind.
    pub(crate) corpus: Vec<String>,
    /// The noise of the machine.
    pub(crate) noise: Noise,
    /// The rows, in the order they were measured in.
    pub(crate) rows: Vec<Row>,
    /// The reason not to quote the numbers; empty when they may be quoted.
    pub(crate) caveat: &'static str,
}

impl Report {
    fn cells(&self) -> Vec<[String; 6]> {
        let rows = self.rows.iter().map(|row| row.cells(&self.noise));
        std::iter::once(HEAD.map(str::to_owned)).chain(rows).collect()
    }

    /// Returns the table as text, with the noise above and the remarks below.
    pub(crate) fn text(&self) -> String {
        let cells = self.cells();
        let widths: [usize; 6] = std::array::from_fn(|column| {
            cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        let mut text = self.noise.lines().join("\n")
            + "\nmedians [interval that holds the true median; 90 % or more from five turns on]\n\n";
        for (index, row) in cells.iter().enumerate() {
            let line: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text += &format!("| {} |\n", line.join(" | "));
            if index == 0 {
                text += &format!("|{}|\n", widths.map(|width| "-".repeat(width + 2)).join("|"));
            }
        }
        text += "\n";
        for row in self.rows.iter().filter(|row| !row.remark().is_empty()) {
            text += &format!("{}: {}\n", row.cells(&self.noise)[0], row.remark());
        }
        format!("{text}\n{}\n{}\n", self.counts(), self.caveat)
    }

    /// Returns the table as Markdown, with numbered remarks.
    pub(crate) fn markdown(&self) -> String {
        let value = |key: &str| {
            self.machine[key].as_str().map_or_else(|| self.machine[key].to_string(), str::to_owned)
        };
        let head = format!("| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len()));
        let mut text = format!(
            "Commit {}, {}: {} CPUs of {}, {} of memory, Linux {}. Medians [interval that holds the true median; 90 % or more from five turns on]. {}.\n\n",
            value("commit"),
            value("date"),
            value("cpus"),
            value("cpu"),
            value("memory"),
            value("kernel"),
            self.counts(),
        );
        if !self.caveat.is_empty() {
            text += &format!("**{}**\n\n", self.caveat);
        }
        text += &head;
        for row in self.rows.iter().filter(|row| row.is_headline()) {
            text += &format!("| {} |\n", row.cells(&self.noise).join(" | "));
        }
        // `cargo xtask figures` copies the text above this mark into the README.
        text += "\n<!-- all rows -->\n\n";
        self.noise
            .lines()
            .iter()
            .chain(&self.corpus)
            .for_each(|line| text += &format!("- {line}\n"));
        text += &format!("\n{head}");
        let mut remarks = Vec::new();
        for row in &self.rows {
            let mut cells = row.cells(&self.noise);
            if !row.remark().is_empty() {
                remarks.push(row.remark());
                cells[0] += &format!(" ({})", remarks.len());
            }
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text += "\n";
        remarks
            .iter()
            .zip(1..)
            .for_each(|(remark, number)| text += &format!("{number}. {remark}\n"));
        text
    }

    fn counts(&self) -> String {
        let count =
            |verdict| self.rows.iter().filter(|row| row.verdict(&self.noise) == verdict).count();
        format!(
            "{} met, {} NOT MET, {} too noisy, {} skipped, {} failed, {} for information",
            count(Verdict::Met),
            count(Verdict::NotMet),
            count(Verdict::TooNoisy),
            count(Verdict::Skipped),
            count(Verdict::Failed),
            count(Verdict::Info)
        )
    }

    /// Writes the report as JSON.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let rows: Vec<Value> = self.rows.iter().map(|row| row.json(&self.noise)).collect();
        let text = json!({
            "machine": self.machine,
            "caveat": self.caveat,
            "corpus": self.corpus,
            "noise": Samples::json(self.noise.samples(), Unit::Share),
            "rows": rows,
        });
        fs::write(path, format!("{text:#}\n"))
    }
}

/// Returns the machine, the commit and the date of the run.
pub(crate) fn machine() -> Value {
    // Unknown values are empty or "unknown", so that a report never fails.
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        found.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let output = |program: &str, args: &[&str]| {
        let output =
            Command::new(program).args(args).output().ok().filter(|output| output.status.success());
        output.map_or_else(
            || "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "cpu": line("/proc/cpuinfo", "model name"),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": kernel.trim(),
        "commit": output("git", &["describe", "--always", "--dirty"]),
        "date": output("date", &["-u", "-d", &format!("@{seconds}"), "+%F %H:%M UTC"]),
    })
}
