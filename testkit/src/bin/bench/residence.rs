//! What a server really holds: resident memory against its own count, after everything was discarded, and as it ages.

use std::thread;
use std::time::Duration;

use testkit::PAGE_SIZE;
use testkit::nbd::{Contents, Load, Work};

use crate::context::{Context, Outcome, tell};
use crate::row::{Reach, Row, Samples, Unit, Verdict};
use crate::servers::{Server, need_nbdkit};

const MIB: f64 = 1_048_576.0;

/// What a server may hold beside its data. Units: bytes.
const PROCESS: f64 = 16.0 * MIB;

/// Time to give memory back after the last request.
const SETTLE: Duration = Duration::from_millis(1500);

/// RSS against `mem_total`, and RSS after a discard of everything against RSS at the start.
pub fn memory(context: &Context) -> Outcome {
    tell("resident memory of the server");
    let size = (context.mixed.len() * PAGE_SIZE) as u64;
    let server = Server::memzip(context, "lz4", size)?;
    let contents = Contents::new(&context.mixed, size);
    let at_start = server.resident()?;
    Load::whole_disk(&server.target(), Work::Fill).run(&contents)?;
    thread::sleep(SETTLE);
    let full = server.resident()?;
    let total = server.stat()?["mem_total"].as_f64().ok_or("memzip stat --json has no mem_total")?;
    Load::whole_disk(&server.target(), Work::ReadAll).run(&contents)?;
    Load::whole_disk(&server.target(), Work::TrimAll).run(&contents)?;
    thread::sleep(SETTLE);
    let emptied = server.resident()?;
    Load::whole_disk(&server.target(), Work::ReadAll).run(&contents)?;
    let over = Row::ratio("server RSS, full", &Samples::one(full), "mem_total", &Samples::one(total), Unit::Bytes)
        .comparing((full - PROCESS) / total)
        .must(Reach::Most(1.05))
        .note("the ratio leaves out the 16 MiB a process may hold beside its data");
    let after = Row::ratio(
        "server RSS, all discarded",
        &Samples::one(emptied),
        "at the start",
        &Samples::one(at_start),
        Unit::Bytes,
    )
    .comparing((emptied - at_start) / MIB)
    .must(Reach::Most(16.0))
    .note("the number compared is the difference in MiB");
    Ok(vec![over, after])
}

/// Every page overwritten once, in random order, with other real pages.
pub fn aging(context: &Context) -> Outcome {
    let mut rows = Vec::new();
    for algorithm in ["zstd:3", "lz4"] {
        tell(&format!("aging, memzip {algorithm}"));
        let size = (context.mixed.len() * PAGE_SIZE) as u64;
        let server = Server::memzip(context, algorithm, size)?;
        let row = age(context, &server, &format!("aging, memzip {algorithm}: RSS after"))?;
        rows.push(row.must(Reach::Most(1.05)));
    }
    tell("aging, nbdkit zstd");
    let peer = "aging, nbdkit zstd: RSS after";
    rows.push(match need_nbdkit() {
        Ok(()) => age(context, &Server::nbdkit("zstd", (context.mixed.len() * PAGE_SIZE) as u64)?, peer)?,
        Err(why) => Row::without(peer, Verdict::Skipped, why),
    });
    Ok(rows)
}

fn age(context: &Context, server: &Server, what: &str) -> Result<Row, Box<dyn std::error::Error>> {
    let contents = Contents::new(&context.mixed, (context.mixed.len() * PAGE_SIZE) as u64);
    Load::whole_disk(&server.target(), Work::Fill).run(&contents)?;
    thread::sleep(SETTLE);
    let before = server.resident()?;
    Load { depth: 32, ..Load::whole_disk(&server.target(), Work::Overwrite) }.run(&contents)?;
    thread::sleep(SETTLE);
    let after = server.resident()?;
    Load::whole_disk(&server.target(), Work::ReadAll).run(&contents)?;
    Ok(Row::ratio(what, &Samples::one(after), "before", &Samples::one(before), Unit::Bytes))
}
