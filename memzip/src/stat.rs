//! `memzip stat`: what a running server holds, as a table.

use std::path::Path;

use anyhow::{Context, Result};

use crate::columns::{Align, Columns};
use crate::control::client;
use crate::control::stat_json::{MemoryParts, StatReport};
use crate::output::Format;
use crate::sizes::{grouped, human};

/// Asks and prints.
pub(crate) fn run(control: &Path, format: Format) -> Result<String> {
    let stat = client::stat(control)?;
    match format {
        Format::Json => Ok(serde_json::to_string_pretty(&stat).context("cannot write JSON")? + "\n"),
        Format::Table => Ok(table(&stat)),
    }
}

/// The columns of zramctl, then where the memory goes.
fn table(stat: &StatReport) -> String {
    format!("{}\n{}\n{}", devices(stat), memory(stat), buddy(stat))
}

fn devices(stat: &StatReport) -> Columns {
    use Align::{Left, Right};
    let mut table = Columns::new(&[Left, Right, Right, Right, Left, Right, Right, Right, Right, Right]);
    table.row([
        "NAME",
        "DISKSIZE",
        "DATA",
        "COMPR",
        "ALGORITHM",
        "ZERO-PAGES",
        "TOTAL",
        "MEM-LIMIT",
        "MEM-USED",
        "MIGRATED",
    ]);
    let limit = if stat.mem_limit == 0 { "-".to_owned() } else { human(stat.mem_limit) };
    table.row([
        stat.uri.clone(),
        human(stat.disksize),
        human(stat.orig_data_size),
        human(stat.compr_data_size),
        stat.comp_algorithm.clone(),
        stat.same_pages.to_string(),
        human(stat.mem_used_total),
        limit,
        human(stat.mem_used_max),
        grouped(stat.pages_compacted),
    ]);
    table
}

fn memory(stat: &StatReport) -> Columns {
    let mut table = Columns::new(&[Align::Left, Align::Right, Align::Right]);
    table.row(["MEMORY", "SIZE", "SHARE", ""]);
    for (name, bytes, meaning) in stat.memory.named() {
        table.row([name, &human(bytes), &share(bytes, stat.mem_total), meaning]);
    }
    table.row(["mem_total", &human(stat.mem_total), &share(stat.mem_total, stat.mem_total), verdict(&stat.memory)]);
    if let Some(rss) = stat.rss {
        table.row(["rss", &human(rss), "", "the whole process, as the OS counts it"]);
    }
    table
}

/// Tells a leak, fragmentation and slack apart.
fn verdict(memory: &MemoryParts) -> &'static str {
    let total = memory.sum();
    if memory.holes > total / 10 {
        "fragmented: \"memzip compact\" gives the holes back"
    } else if memory.free_frames > total / 10 && memory.free_frames > 16 << 20 {
        "much of it is free frames: they serve the next writes or go back to the OS in blocks of 2M"
    } else {
        "everything above"
    }
}

fn buddy(stat: &StatReport) -> String {
    format!("FREE BLOCKS by size, 4K 8K 16K ... 4M\n{}\n", stat.buddyinfo.trim_end())
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    format!("{}.{}%", tenths / 10, tenths % 10)
}
