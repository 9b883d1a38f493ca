//! The table and the JSON file.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::row::{Row, Verdict};

const HEAD: [&str; 6] = ["what", "measured", "against", "ratio", "reach", "met?"];

/// Prints the rows as a table, with remarks below.
pub fn print(rows: &[Row]) {
    let cells: Vec<[String; 6]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for (index, row) in cells.iter().enumerate() {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", line.join(" | "));
        if index == 0 {
            println!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
        }
    }
    println!();
    for row in rows.iter().filter(|row| !row.remark().is_empty()) {
        println!("{}: {}", row.cells()[0], row.remark());
    }
    let count = |verdict| rows.iter().filter(|row| row.verdict() == verdict).count();
    println!(
        "\n{} met, {} NOT MET, {} skipped, {} failed, {} for information",
        count(Verdict::Met),
        count(Verdict::NotMet),
        count(Verdict::Skipped),
        count(Verdict::Failed),
        count(Verdict::Info)
    );
}

/// Writes the rows and what they were measured on.
pub fn write(path: &Path, rows: &[Row], corpus: &[String], quick: bool) -> std::io::Result<()> {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let text = json!({ "machine": machine(), "quick": quick, "corpus": corpus, "rows": rows });
    fs::write(path, format!("{text:#}\n"))
}

/// What this was measured on.
pub fn machine() -> Value {
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        found.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpu": line("/proc/cpuinfo", "model name"),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": kernel.trim(),
    })
}
