//! One client's reads while another client floods writes.
//!
//! The load of a flood slows a reader down on any machine with few CPUs, whatever the server does.
//! So the reader is compared with itself beside the same flood on *another* server: what is left is
//! what the two clients of one server do to each other.

use std::error::Error;
use std::thread;

use testkit::PAGE_SIZE;
use testkit::nbd::{Latency, Load, Work};

use crate::context::{Context, Outcome, tell};
use crate::nbd_peers::Subject;
use crate::row::{Reach, Row, Samples, Unit};
use crate::servers::Server;

/// Latencies of the reader. Units: seconds.
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

/// All rows of this group.
pub fn latency(context: &Context) -> Outcome {
    tell("NBD read latency beside a flood of writes");
    let size = (context.mixed.len() * PAGE_SIZE) as u64;
    let start = || Subject::new(&context.mixed, Server::memzip(context, "lz4", size)?);
    let (subject, other) = (start()?, start()?);
    let (mut alone, mut beside, mut same) = <(Percentiles, Percentiles, Percentiles)>::default();
    for seed in 0..context.repetitions(7) as u64 {
        let reader = Load { seed, ..subject.load(Work::RandomReads, 1, context.load_time()) };
        alone.push(&reader.run(subject.contents())?.latency);
        beside.push(&flooded(&subject, &reader, &other)?);
        same.push(&flooded(&subject, &reader, &subject)?);
    }
    subject.verify()?;
    let note = |samples: &Percentiles| format!("p50: {:.1} us", samples.p50.median() * 1e6);
    let row = |what: &str, ours: &Percentiles, against: &str, peer: &Percentiles| {
        let note = format!("{}; {against} {}", note(ours), note(peer));
        Row::ratio(what, &ours.p99, against, &peer.p99, Unit::Seconds).note(note)
    };
    Ok(vec![
        row(
            "NBD p99 read latency beside a write flood",
            &same,
            "the flood on another server",
            &beside,
        )
        .must(Reach::Most(1.5)),
        row("NBD p99 read latency beside a write flood", &same, "alone", &alone),
    ])
}

/// The reader's latencies while another client floods `victim`.
fn flooded(
    subject: &Subject<'_>,
    reader: &Load,
    victim: &Subject<'_>,
) -> Result<Latency, Box<dyn Error>> {
    // The flood starts a little earlier and lasts longer than the reader.
    let time = reader.time + reader.time / 2;
    let flood = Load { seed: reader.seed, ..victim.load(Work::RandomWrites, 32, time) };
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood.run(victim.contents()));
        thread::sleep(reader.time / 8);
        let busy = reader.run(subject.contents());
        flooding.join().map_err(|_| "the flood panicked")??;
        Ok(busy?.latency)
    })
}
