//! The latency of one client's reads while another client floods writes.
//!
//! On a machine with few CPUs the load of a flood slows a reader down, whatever the server does.
//! So the reader is compared with itself during the same flood on *another* server. The difference
//! is the effect that two clients of one server have on each other.

use std::error::Error;
use std::thread;

use testkit::PAGE_SIZE;
use testkit::nbd::{Latency, Load, Workload};

use crate::context::{Context, report_progress};
use crate::nbd_peers::MeasuredServer;
use crate::row::{Bound, GroupResult, Row, Samples, Unit};
use crate::servers::Server;

/// Percentiles of the reader's latencies. Units: seconds.
#[derive(Default)]
struct Percentiles {
    p50: Samples,
    p99: Samples,
}

impl Percentiles {
    fn push(&mut self, latency: &Latency) {
        self.p50.push(latency.percentile(50.0).as_secs_f64());
        self.p99.push(latency.percentile(99.0).as_secs_f64());
    }
}

/// Measures all rows of this group.
pub(crate) fn latency(context: &Context) -> GroupResult {
    report_progress("NBD read latency during a flood of writes");
    let size = (context.mixed.len() * PAGE_SIZE) as u64;
    let start = || MeasuredServer::new(&context.mixed, Server::memzip(context, "lz4", size)?);
    let (measured, other) = (start()?, start()?);
    let (mut alone, mut beside, mut same) = <(Percentiles, Percentiles, Percentiles)>::default();
    for seed in 0..context.repetitions(7) as u64 {
        let reader = Load { seed, ..measured.load(Workload::RandomReads, 1, context.load_time()) };
        // The reader alone, during a flood on another server, and on its own server.
        alone.push(&reader.run(measured.model())?.latency);
        beside.push(&flooded(&measured, &reader, &other)?);
        same.push(&flooded(&measured, &reader, &measured)?);
    }
    measured.verify()?;
    let note = |samples: &Percentiles| format!("p50: {:.1} us", samples.p50.median() * 1e6);
    let row = |what: &str, ours: &Percentiles, against: &str, peer: &Percentiles| {
        let note = format!("{}; {against} {}", note(ours), note(peer));
        Row::ratio(what, &ours.p99, against, &peer.p99, Unit::Seconds).note(note)
    };
    Ok(vec![
        row(
            "NBD p99 read latency during a write flood",
            &same,
            "the flood on another server",
            &beside,
        )
        .must(Bound::AtMost(1.5)),
        row("NBD p99 read latency during a write flood", &same, "alone", &alone),
    ])
}

/// Returns the reader's latencies while another client floods `victim`.
fn flooded(
    measured: &MeasuredServer<'_>,
    reader: &Load,
    victim: &MeasuredServer<'_>,
) -> Result<Latency, Box<dyn Error>> {
    // The flood starts earlier and ends later than the reader.
    let time = reader.time + reader.time / 2;
    let flood = Load { seed: reader.seed, ..victim.load(Workload::RandomWrites, 32, time) };
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood.run(victim.model()));
        thread::sleep(reader.time / 8);
        let busy = reader.run(measured.model());
        flooding.join().map_err(|_| "the flood panicked")??;
        Ok(busy?.latency)
    })
}
