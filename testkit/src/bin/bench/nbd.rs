//! Requests a second and latency over a unix socket, beside nbdkit's memory plugin.

use std::error::Error;
use std::thread;

use testkit::PAGE_SIZE;
use testkit::nbd::{Check, Contents, Load, Target, Work};

use crate::context::{Context, Outcome, tell};
use crate::row::{Reach, Row, Samples, Unit, Verdict};
use crate::servers::{Server, need_nbdkit};

/// A server, and what its disk holds.
struct Subject<'a> {
    server: Server,
    contents: Contents<'a>,
}

impl<'a> Subject<'a> {
    fn new(context: &'a Context, server: Server) -> Result<Self, Box<dyn Error>> {
        let contents = Contents::new(&context.mixed, (context.mixed.len() * PAGE_SIZE) as u64);
        Load::whole_disk(&server.target(), Work::Fill).run(&contents)?;
        Ok(Self { server, contents })
    }

    /// Requests a second at depth 32.
    fn rate(&self, context: &Context, work: &Work, connections: u32, seed: u64) -> Result<f64, Box<dyn Error>> {
        let load = Load { connections, seed, ..random(context, &self.server.target(), work.clone(), 32) };
        Ok(load.run(&self.contents)?.rate())
    }

    /// Reads the whole disk and compares every byte.
    fn verify(&self) -> Result<(), Box<dyn Error>> {
        Load::whole_disk(&self.server.target(), Work::ReadAll).run(&self.contents)?;
        Ok(())
    }
}

fn random(context: &Context, target: &Target, work: Work, depth: u16) -> Load {
    Load { depth, check: Check::Length, time: context.load_time(), ..Load::whole_disk(target, work) }
}

/// Whom the table names, in this order in every list below.
#[derive(Clone, Copy)]
enum Who {
    Lz4,
    Zstd,
    Sparse,
    NbdkitZstd,
}

/// Throughput rows.
pub fn throughput(context: &Context) -> Outcome {
    if let Err(why) = need_nbdkit() {
        return Ok(vec![Row::without("NBD random read and write against nbdkit", Verdict::Skipped, why)]);
    }
    tell("NBD: filling four servers");
    let size = (context.mixed.len() * PAGE_SIZE) as u64;
    let subjects = [
        Subject::new(context, Server::memzip(context, "lz4", size)?)?,
        Subject::new(context, Server::memzip(context, "zstd:3", size)?)?,
        Subject::new(context, Server::nbdkit("sparse", size)?)?,
        Subject::new(context, Server::nbdkit("zstd", size)?)?,
    ];
    let mut rows = Vec::new();
    // All reads before any write: nbdkit's zstd disk is at its best only as long as nothing was overwritten.
    for (work, name, sparse, zstd) in
        [(Work::RandomReads, "read", [0.9, 1.0], 6.0), (Work::RandomWrites, "write", [0.5, 0.55], 10.0)]
    {
        for (connections, sparse) in [1, 2].into_iter().zip(sparse) {
            tell(&format!("NBD random {name}, {connections} connection(s)"));
            let rates = take_turns(context, &subjects, &work, connections)?;
            rows.append(&mut judge(&rates, &format!("NBD random {name}, {connections} conn."), sparse, zstd));
        }
    }
    tell("NBD: reading everything back");
    subjects.iter().try_for_each(Subject::verify)?;
    Ok(rows)
}

fn take_turns(
    context: &Context,
    subjects: &[Subject<'_>; 4],
    work: &Work,
    connections: u32,
) -> Result<[Samples; 4], Box<dyn Error>> {
    let mut rates: [Samples; 4] = Default::default();
    for repetition in 0..context.repetitions(5) as u64 {
        for (subject, rates) in subjects.iter().zip(&mut rates) {
            rates.push(subject.rate(context, work, connections, repetition)?);
        }
    }
    Ok(rates)
}

fn judge(rates: &[Samples; 4], what: &str, sparse: f64, zstd: f64) -> Vec<Row> {
    let row = |ours: Who, name: &str, peer: Who, peer_name: &str, least| {
        let (ours, peer) = (&rates[ours as usize], &rates[peer as usize]);
        Row::ratio(format!("{what}, {name}"), ours, peer_name, peer, Unit::Rate).must(Reach::Least(least))
    };
    vec![
        row(Who::Lz4, "lz4", Who::Sparse, "nbdkit sparse", sparse),
        row(Who::Lz4, "lz4", Who::NbdkitZstd, "nbdkit zstd", zstd),
        row(Who::Zstd, "zstd:3", Who::NbdkitZstd, "nbdkit zstd", 4.0),
    ]
}

/// The reader's p99, alone and while another client floods writes.
pub fn latency(context: &Context) -> Outcome {
    tell("NBD read latency beside a flood of writes");
    let size = (context.mixed.len() * PAGE_SIZE) as u64;
    let subject = Subject::new(context, Server::memzip(context, "lz4", size)?)?;
    let target = subject.server.target();
    let (mut alone, mut flooded) = (Samples::default(), Samples::default());
    let (mut alone_middle, mut flooded_middle) = (Samples::default(), Samples::default());
    for seed in 0..context.repetitions(5) as u64 {
        let reader = Load { seed, ..random(context, &target, Work::RandomReads, 1) };
        let quiet = reader.run(&subject.contents)?.latency;
        alone.push(quiet.percentile(99.0).as_secs_f64());
        alone_middle.push(quiet.percentile(50.0).as_secs_f64());
        // The flood starts a little earlier and lasts longer than the reader.
        let flood_time = reader.time + reader.time / 2;
        let flood = Load { seed, time: flood_time, ..random(context, &target, Work::RandomWrites, 32) };
        let busy = thread::scope(|scope| {
            let flooding = scope.spawn(|| flood.run(&subject.contents));
            thread::sleep(reader.time / 8);
            let busy = reader.run(&subject.contents);
            flooding.join().map_err(|_| "the flood panicked")??;
            Ok::<_, Box<dyn Error>>(busy?.latency)
        })?;
        flooded.push(busy.percentile(99.0).as_secs_f64());
        flooded_middle.push(busy.percentile(50.0).as_secs_f64());
    }
    subject.verify()?;
    let median = |samples: &Samples| samples.median() * 1e6;
    let note = format!("p50: {:.1} us, alone {:.1} us", median(&flooded_middle), median(&alone_middle));
    let row = Row::ratio("NBD p99 read latency beside a write flood", &flooded, "alone", &alone, Unit::Seconds);
    Ok(vec![row.must(Reach::Most(4.0)).note(note)])
}
