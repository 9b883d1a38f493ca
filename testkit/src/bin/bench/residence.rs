//! The memory of a server: its resident memory against its own count, after a discard of
//! everything, and after overwrites.

use std::thread;
use std::time::Duration;

use testkit::PAGE_SIZE;
use testkit::nbd::{DiskModel, Load, Workload};

use crate::context::{Context, report_progress};
use crate::row::{Bound, GroupResult, Row, Samples, Unit, Verdict};
use crate::servers::{Server, Threads, need_nbdkit};

/// A mebibyte. Units: bytes.
const MIB: f64 = 1_048_576.0;

/// Memory that a server may hold besides its data. Units: bytes.
const PROCESS_OVERHEAD: f64 = 16.0 * MIB;

/// Time after the last request in which the server returns memory to the OS.
const DECOMMIT_DELAY: Duration = Duration::from_millis(1500);

/// Measures RSS against `mem_total`, and RSS after a discard of everything against RSS at the
/// start.
pub(crate) fn memory(context: &Context) -> GroupResult {
    report_progress("resident memory of the server");
    let size = (context.mixed.len() * PAGE_SIZE) as u64;
    let server = Server::memzip(context, "lz4", size)?;
    let model = DiskModel::new(&context.mixed, size);
    let at_start = server.resident()?;
    // Fill, measure, discard everything, and measure again; both times check the content.
    Load::whole_disk(&server.target(), Workload::Fill).run(&model)?;
    thread::sleep(DECOMMIT_DELAY);
    let full = server.resident()?;
    let total =
        server.stat()?["mem_total"].as_f64().ok_or("memzip stat --json has no mem_total")?;
    Load::whole_disk(&server.target(), Workload::ReadAll).run(&model)?;
    Load::whole_disk(&server.target(), Workload::TrimAll).run(&model)?;
    thread::sleep(DECOMMIT_DELAY);
    let emptied = server.resident()?;
    Load::whole_disk(&server.target(), Workload::ReadAll).run(&model)?;
    let of = |ours: f64, against: &str, peer: f64, what: &str| {
        Row::ratio(what, &Samples::one(ours), against, &Samples::one(peer), Unit::Bytes)
    };
    let whole = of(full, "mem_total", total, "server RSS, full");
    let without_overhead = of(
        full - PROCESS_OVERHEAD,
        "mem_total",
        total,
        "server RSS, full, minus 16 MiB for the process",
    )
    .must(Bound::AtMost(1.05))
    .note(format!("16 MiB are deducted; without data the process held {:.1} MiB", at_start / MIB));
    let after = of(emptied, "at the start", at_start, "server RSS, all discarded");
    let grown = of(
        emptied - at_start,
        "allowed",
        PROCESS_OVERHEAD,
        "server RSS, all discarded, minus RSS at the start",
    );
    Ok(vec![whole, without_overhead, after, grown.must(Bound::AtMost(1.0))])
}

/// Measures RSS after every page was overwritten once, in random order, with other real pages.
pub(crate) fn aging(context: &Context) -> GroupResult {
    let size = (context.mixed.len() * PAGE_SIZE) as u64;
    let mut rows = Vec::new();
    report_progress("aging, memzip lz4");
    rows.push(
        age(context, &Server::memzip(context, "lz4", size)?)?.row("lz4").must(Bound::AtMost(1.05)),
    );
    report_progress("aging, memzip zstd:3");
    let ours = age(context, &Server::memzip(context, "zstd:3", size)?)?;
    rows.push(ours.row("zstd:3").must(Bound::AtMost(1.05)));
    report_progress("aging, nbdkit zstd:3");
    let what = "aging, memzip zstd:3: RSS after every page was overwritten";
    rows.push(match need_nbdkit() {
        Ok(()) => {
            // nbdkit's memory plugin compresses blocks of 32 KiB with zstd at level 3.
            let theirs = age(context, &Server::nbdkit("zstd", Threads(1), size)?)?;
            let [after, peer] = [ours.after, theirs.after].map(Samples::one);
            Row::ratio(what, &after, "nbdkit zstd:3, the same", &peer, Unit::Bytes)
                .must(Bound::AtMost(1.0))
                .headline()
                .note(format!(
                    "nbdkit's RSS before: {:.1} MiB, ours {:.1} MiB",
                    theirs.before / MIB,
                    ours.before / MIB
                ))
        }
        Err(why) => Row::without(what, Verdict::Skipped, why),
    });
    Ok(rows)
}

/// Resident bytes of a server before and after its whole disk was overwritten.
struct Aged {
    before: f64,
    after: f64,
}

impl Aged {
    fn row(&self, algorithm: &str) -> Row {
        let [after, before] = [self.after, self.before].map(Samples::one);
        let what = format!("aging, memzip {algorithm}: RSS after every page was overwritten");
        Row::ratio(what, &after, "freshly filled", &before, Unit::Bytes)
    }
}

fn age(context: &Context, server: &Server) -> Result<Aged, Box<dyn std::error::Error>> {
    let model = DiskModel::new(&context.mixed, (context.mixed.len() * PAGE_SIZE) as u64);
    Load::whole_disk(&server.target(), Workload::Fill).run(&model)?;
    thread::sleep(DECOMMIT_DELAY);
    let before = server.resident()?;
    Load { depth: 32, ..Load::whole_disk(&server.target(), Workload::Overwrite) }.run(&model)?;
    thread::sleep(DECOMMIT_DELAY);
    let after = server.resident()?;
    Load::whole_disk(&server.target(), Workload::ReadAll).run(&model)?;
    Ok(Aged { before, after })
}
