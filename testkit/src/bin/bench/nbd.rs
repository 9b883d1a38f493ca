//! Requests per second over a unix socket, against nbdkit's memory plugin and qemu-nbd, with
//! testkit's generator and with fio.

use std::error::Error;

use testkit::nbd::{Load, Workload};

use crate::context::{Context, report_progress};
use crate::fio;
use crate::nbd_peers::{PeerKind, Peers};
use crate::row::{Bound, GroupResult, Row, Samples, Unit, Verdict};

/// Depths and numbers of connections: deep, deep with two connections, and one request at a time.
const SHAPES: [(u16, u32); 3] = [(32, 1), (32, 2), (1, 1)];

/// Depths that nbdkit is tuned for.
const DEPTHS: [u16; 2] = [32, 1];

/// The bounds of reads and of writes, each with one connection and with two.
type Goals = [[Option<f64>; 2]; 2];

/// The pairs that are compared: memzip, the peer, and the bounds at depth 32.
const PAIRS: [(PeerKind, PeerKind, Goals); 4] = [
    (PeerKind::Lz4, PeerKind::Sparse, [[Some(0.9), Some(1.0)], [Some(0.5), Some(0.55)]]),
    (PeerKind::Lz4, PeerKind::Qemu, [[None, None], [None, None]]),
    (PeerKind::Lz4, PeerKind::NbdkitZstd, [[Some(6.0), Some(6.0)], [Some(10.0), Some(10.0)]]),
    (PeerKind::Zstd, PeerKind::NbdkitZstd, [[Some(4.0), Some(4.0)], [Some(4.0), Some(4.0)]]),
];

/// Measures all rows of this group.
pub(crate) fn throughput(context: &Context) -> GroupResult {
    let peers = Peers::start(context, &DEPTHS)?;
    let mut rows: Vec<Row> = Vec::new();
    // All reads come before any write: nbdkit's zstd disk is at its best until it is overwritten.
    for (number, (work, name)) in
        [(Workload::RandomReads, "read"), (Workload::RandomWrites, "write")].into_iter().enumerate()
    {
        for (depth, connections) in SHAPES {
            report_progress(&format!(
                "NBD random {name}, depth {depth}, {connections} connection(s)"
            ));
            let rates = take_turns(context, &peers, &work, depth, connections)?;
            let goal =
                |goals: &Goals| (depth > 1).then(|| goals[number][connections as usize - 1])?;
            let what = format!("NBD random {name}, depth {depth}, {connections} conn.");
            for (ours, peer, goals) in &PAIRS {
                let row = pair(&peers, &rates, &what, (*ours, *peer), depth, goal(goals));
                let is_headline = (depth, connections, number, *ours, *peer)
                    == (32, 1, 0, PeerKind::Lz4, PeerKind::Sparse);
                rows.extend(row.map(|row| if is_headline { row.headline() } else { row }));
            }
        }
        if matches!(work, Workload::RandomReads) {
            rows.append(&mut by_fio(context, &peers, fio::Workload::Reads)?);
        }
    }
    report_progress("NBD: reading everything back");
    (0..peers.len()).try_for_each(|number| peers.measured(number).verify())?;
    rows.append(&mut by_fio(context, &peers, fio::Workload::Writes)?);
    if let Some(first) = rows.first_mut() {
        first.add_note(&peers.remarks.join("; "));
    }
    Ok(rows)
}

/// Returns the requests per second of every server that takes part at this depth.
fn take_turns(
    context: &Context,
    peers: &Peers<'_>,
    work: &Workload,
    depth: u16,
    connections: u32,
) -> Result<Vec<Samples>, Box<dyn Error>> {
    let mut rates = vec![Samples::default(); peers.len()];
    for seed in 0..context.repetitions(5) as u64 {
        for (number, rates) in
            rates.iter_mut().enumerate().filter(|(number, _)| peers.takes_part(*number, depth))
        {
            let measured = peers.measured(number);
            let load = Load {
                connections,
                seed,
                ..measured.load(work.clone(), depth, context.load_time())
            };
            rates.push(measured.rate(&load)?);
        }
    }
    Ok(rates)
}

/// Returns the row of a pair, a skipped row without the peer, or `None` without memzip's server.
fn pair(
    peers: &Peers<'_>,
    rates: &[Samples],
    what: &str,
    (ours, peer): (PeerKind, PeerKind),
    depth: u16,
    goal: Option<f64>,
) -> Option<Row> {
    let name = peers.name(peers.find(ours, depth)?);
    let what = format!("{what}, {name}");
    let Some(number) = peers.find(peer, depth) else {
        return Some(Row::without(
            format!("{what} against {peer:?}"),
            Verdict::Skipped,
            peers.remarks.join("; "),
        ));
    };
    let (ours, theirs) = (&rates[peers.find(ours, depth)?], &rates[number]);
    let row = Row::ratio(what, ours, peers.name(number), theirs, Unit::Rate);
    Some(row.must(goal.map_or(Bound::Info, Bound::AtLeast)))
}

/// Measures the same servers with fio, a foreign generator.
fn by_fio(context: &Context, peers: &Peers<'_>, work: fio::Workload) -> GroupResult {
    let mut rows = Vec::new();
    for depth in DEPTHS {
        report_progress(&format!("NBD random {}, depth {depth}, by fio", work.name()));
        let mut rates = vec![Samples::default(); peers.len()];
        for _ in 0..context.repetitions(5) {
            for (number, rates) in
                rates.iter_mut().enumerate().filter(|(number, _)| peers.takes_part(*number, depth))
            {
                // Without fio the whole group is one skipped row.
                match fio::rate(&peers.measured(number).server, work, depth, context.load_time()) {
                    Ok(rate) => rates.push(rate),
                    Err(why) => {
                        let what = format!("NBD random {}, by fio", work.name());
                        return Ok(vec![Row::without(what, Verdict::Skipped, why.to_string())]);
                    }
                }
            }
        }
        let what =
            format!("NBD random {}, depth {depth}, 1 conn., by fio ({})", work.name(), work.data());
        for (ours, peer, _) in &PAIRS {
            rows.extend(pair(peers, &rates, &what, (*ours, *peer), depth, None));
        }
    }
    Ok(rows)
}
