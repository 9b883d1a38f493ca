//! `memzip stat`: prints what a running server holds.

use anyhow::Result;
use zram::HotStat;

use crate::cli::ControlArgs;
use crate::columns::{Align, Columns};
use crate::control::change_json::{BalloonReport, PressureReport};
use crate::control::client;
use crate::control::stat_json::{StatReport, memory_parts, nbd_errors};
use crate::sizes::{grouped, human};

/// Asks the server for its statistics; returns them as text to print.
pub(crate) fn run(args: &ControlArgs) -> Result<String> {
    args.format.render(&client::stat(&args.socket()?)?, table)
}

/// Formats the columns of zramctl, then where the memory goes.
fn table(stat: &StatReport) -> String {
    let (devices, memory) = (devices(stat), memory(stat));
    let (clients, movement, blocks) = (clients(stat), movement(stat), stat.buddyinfo.trim_end());
    format!(
        "{devices}\n{memory}\n{clients}{movement}\nFREE BLOCKS by size, 4K 8K 16K ... 4M\n{blocks}\n"
    )
}

fn devices(stat: &StatReport) -> Columns {
    use Align::{Left, Right};
    let mm = &stat.mm;
    let limit = if mm.mem_limit == 0 { "-".to_owned() } else { human(mm.mem_limit) };
    let columns = [
        (Left, "NAME", stat.uri.clone()),
        (Right, "DISKSIZE", human(stat.disksize)),
        (Right, "DATA", human(mm.orig_data_size)),
        (Right, "COMPR", human(mm.compr_data_size)),
        (Left, "ALGORITHM", stat.comp_algorithm.clone()),
        (Right, "ZERO-PAGES", mm.same_pages.to_string()),
        (Right, "TOTAL", human(mm.mem_used_total)),
        (Right, "MEM-LIMIT", limit),
        (Right, "MEM-USED", human(mm.mem_used_max)),
        (Right, "MIGRATED", grouped(mm.pages_compacted)),
    ];
    let mut table = Columns::new(&columns.each_ref().map(|(align, ..)| *align));
    table.row(columns.each_ref().map(|(_, head, _)| *head));
    table.row(columns.map(|(.., cell)| cell));
    table
}

fn memory(stat: &StatReport) -> Columns {
    let mut table = Columns::new(&[Align::Left, Align::Right, Align::Right]);
    table.row(["MEMORY", "SIZE", "SHARE", ""]);
    for (name, bytes, meaning) in memory_parts(&stat.memory) {
        table.row([name, &human(bytes), &share(bytes, stat.mem_total), meaning]);
    }
    let whole = share(stat.mem_total, stat.mem_total);
    table.row(["mem_total", &human(stat.mem_total), &whole, verdict(stat)]);
    if stat.mem_reserved > 0 {
        let meaning = "reserved for zeros that stay allocated; no memory yet";
        table.row(["reserved", &human(stat.mem_reserved), "", meaning]);
    }
    let failed = stat.memory_failure.total;
    if failed.0 > 0 {
        let meaning = "failed memory; what was stored in it is lost";
        table.row(["failed", &human(failed.bytes()), "", meaning]);
    }
    if let Some(rss) = stat.rss {
        table.row(["rss", &human(rss), "", "the whole process, as the OS counts it"]);
    }
    table
}

/// Returns a hint that tells a leak, fragmentation and slack apart.
fn verdict(stat: &StatReport) -> &'static str {
    let (memory, total) = (&stat.memory, stat.mem_total);
    if memory.holes > total / 10 {
        "fragmented: \"memzip compact\" releases the holes"
    } else if memory.free_frames > total / 10 && memory.free_frames > 16 << 20 {
        "slack: the free frames serve the next writes; \"memzip compact\" releases them"
    } else {
        "everything above"
    }
}

fn clients(stat: &StatReport) -> String {
    let nbd = &stat.nbd;
    let errors: u64 = nbd_errors(&nbd.errors).iter().map(|(_, count)| count).sum();
    format!(
        "CLIENTS  {} connected with buffers of {} outside mem_total, {} so far; {} read, {} written; \
         {} error replies or broken connections\n",
        grouped(nbd.connections_current),
        human(nbd.buffer_bytes),
        grouped(nbd.connections_total),
        human(nbd.bytes_read),
        human(nbd.bytes_written),
        grouped(errors)
    )
}

/// Formats one line for each part that moves memory.
fn movement(stat: &StatReport) -> String {
    let StatReport { movability, vmstat, compaction, background, balloon, hot_cache, .. } = stat;
    let vm = |name: &str| grouped(vmstat.get(name).copied().unwrap_or(0));
    let mut text = format!(
        "OBJECTS  {} moved ({}) in {} compactions, {} frames freed\n",
        grouped(compaction.objects_moved),
        human(compaction.bytes_moved),
        grouped(compaction.runs),
        grouped(compaction.frames_freed),
    );
    if movability == "off" {
        text += "FRAMES   stay where they are (--movability off)\n";
    } else {
        let [moved, failed, isolated] =
            ["pgmigrate_success", "pgmigrate_fail", "nr_isolated"].map(vm);
        text += &format!("FRAMES   {moved} moved, {failed} failed; {isolated} isolated now\n");
    }
    text += &match &*background.state {
        "off" => "BACKGROUND  off\n".to_owned(),
        state => format!(
            "BACKGROUND  {state}, at most {} % of a CPU; {} s used, {} objects and {} frames moved, {} frames freed; \
             {} returned to the system, at most {} kept for the next writes\n",
            background.cpu_percent,
            background.stats.cpu.as_secs(),
            grouped(background.stats.objects_moved),
            grouped(background.stats.frames_moved),
            grouped(background.stats.frames_freed),
            human(frames::FrameCount(background.stats.frames_released).bytes()),
            human(background.kept_max)
        ),
    };
    text + &balloon_line(balloon) + &hot_line(hot_cache)
}

fn balloon_line(balloon: &BalloonReport) -> String {
    let BalloonReport { mode, target, actual, held, pressure, .. } = balloon;
    if mode == "off" && *actual == 0 {
        return "BALLOON  off\n".to_owned();
    }
    let (actual, target, held) = (human(*actual), human(*target), human(*held));
    let mut line = format!(
        "BALLOON  {mode}: {actual} of {target} returned to the system, the arena holds {held}"
    );
    if let Some(PressureReport { problem, some_avg10, .. }) = pressure {
        if let Some(problem) = problem {
            line += &format!("; memory pressure cannot be followed: {problem}");
        } else if let Some(share) = some_avg10 {
            line += &format!("; memory pressure {}.{:02} %", share / 100, share % 100);
        }
    }
    line + "\n"
}

fn hot_line(hot: &HotStat) -> String {
    if hot.hot_limit == 0 {
        return "HOT CACHE  off\n".to_owned();
    }
    let [hits, evictions] = [hot.hits, hot.evictions].map(grouped);
    format!(
        "HOT CACHE  {} of {}; {hits} hits, {evictions} evictions\n",
        human(hot.hot_bytes),
        human(hot.hot_limit)
    )
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    format!("{}.{}%", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zram::{MemoryBreakdown, MmStat};

    fn sample() -> StatReport {
        let memory = MemoryBreakdown {
            live: 90 << 20,
            rounding: 1 << 20,
            holes: 2 << 20,
            slots: 7 << 20,
            ..MemoryBreakdown::default()
        };
        StatReport {
            uri: "nbd://127.0.0.1:10809".into(),
            disksize: 4 << 30,
            comp_algorithm: "zstd:3".into(),
            mm: MmStat {
                orig_data_size: 300 << 20,
                compr_data_size: 90 << 20,
                mem_used_total: 93 << 20,
                mem_used_max: 94 << 20,
                same_pages: 17,
                pages_compacted: 1234,
                ..MmStat::default()
            },
            mem_total: 100 << 20,
            rss: Some(105 << 20),
            memory,
            nbd: nbd::Stats {
                connections_current: 2,
                connections_total: 5,
                ..nbd::Stats::default()
            },
            buddyinfo: "Node 0, zone   memzip      0      1 \n".into(),
            ..StatReport::default()
        }
    }

    #[test]
    fn the_table_has_zramctl_columns_and_all_parts() {
        let text = table(&sample());
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next().expect("a head").split_whitespace().collect();
        let row: Vec<&str> = lines.next().expect("a row").split_whitespace().collect();
        let cells: Vec<_> = head.into_iter().zip(row).collect();
        assert_eq!(
            cells,
            [
                ("NAME", "nbd://127.0.0.1:10809"),
                ("DISKSIZE", "4G"),
                ("DATA", "300M"),
                ("COMPR", "90M"),
                ("ALGORITHM", "zstd:3"),
                ("ZERO-PAGES", "17"),
                ("TOTAL", "93M"),
                ("MEM-LIMIT", "-"),
                ("MEM-USED", "94M"),
                ("MIGRATED", "1,234"),
            ]
        );
        for (name, _, meaning) in memory_parts(&sample().memory) {
            assert!(
                text.lines().any(|line| line.starts_with(name) && line.ends_with(meaning)),
                "{name} in\n{text}"
            );
        }
        assert!(
            text.lines().any(|line| line.starts_with("live ") && line.contains("90.0%")),
            "{text}"
        );
        assert!(
            text.contains("\nrss ")
                && text.contains("2 connected")
                && text.contains("memzip      0      1\n"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    }

    #[test]
    fn maintenance_and_unmovable_frames_are_shown() {
        let mut stat = sample();
        stat.background.state = "off".into();
        stat.vmstat.insert("pgmigrate_success".into(), 4321);
        let text = table(&stat);
        assert!(
            text.contains("\nFRAMES   4,321 moved, 0 failed")
                && text.contains("\nBACKGROUND  off\n"),
            "{text}"
        );
        stat.background.state = "watching".into();
        stat.background.cpu_percent = 10;
        stat.movability = "off".into();
        let text = table(&stat);
        assert!(text.contains("BACKGROUND  watching, at most 10 % of a CPU; 0 s used"), "{text}");
        assert!(text.contains("(--movability off)") && !text.contains("4,321"), "{text}");
        assert!(text.contains("\nHOT CACHE  off\n"), "{text}");
        let balloon = &mut stat.balloon;
        *balloon = BalloonReport {
            mode: "auto".into(),
            target: 4 << 20,
            actual: 2 << 20,
            held: 6 << 20,
            ..BalloonReport::default()
        };
        assert!(
            table(&stat)
                .contains("BALLOON  auto: 2M of 4M returned to the system, the arena holds 6M\n")
        );
        let pressure = PressureReport { some_avg10: Some(1205), ..PressureReport::default() };
        stat.balloon.pressure = Some(pressure.clone());
        assert!(table(&stat).contains("6M; memory pressure 12.05 %\n"));
        stat.balloon.pressure =
            Some(PressureReport { problem: Some("no file".into()), ..pressure });
        assert!(table(&stat).contains("cannot be followed: no file\n"));
        stat.hot_cache =
            HotStat { hot_limit: 64 << 20, hot_bytes: 1 << 20, hits: 1000, ..HotStat::default() };
        assert!(table(&stat).contains("HOT CACHE  1M of 64M; 1,000 hits, 0 evictions\n"));
    }

    #[test]
    fn fragmentation_and_slack_are_told_apart() {
        let mut stat = sample();
        assert_eq!(verdict(&stat), "everything above");
        (stat.memory.holes, stat.mem_total) = (50 << 20, 148 << 20);
        assert!(verdict(&stat).starts_with("fragmented"));
        stat.memory.holes = 0;
        (stat.memory.free_frames, stat.mem_total) = (50 << 20, 148 << 20);
        assert!(verdict(&stat).contains("free frames"));
        assert_eq!(verdict(&StatReport::default()), "everything above");
    }
}
