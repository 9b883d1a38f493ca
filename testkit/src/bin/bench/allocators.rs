//! The pool against malloc: random replace and random copy-out of compressed blobs.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::context::{Context, report_progress};
use crate::row::{Bound, GroupResult, Row, Samples, Unit};

/// The programs that are compared; memzip's pool is first.
const PEERS: [&str; 4] = ["peer-pool", "peer-glibc", "peer-jemalloc", "peer-mimalloc"];

/// The workloads: operation, threads, operations in all, and the bound.
const WORKLOADS: [(&str, u32, usize, f64); 4] = [
    ("replace", 1, 1_000_000, 0.9),
    ("replace", 2, 2_000_000, 0.9),
    ("copy", 1, 2_000_000, 0.8),
    ("copy", 2, 4_000_000, 0.8),
];

/// A running peer, killed when dropped.
struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Errors are ignored: a peer that has already exited is the desired state.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(context: &Context, name: &str) -> Result<Self, Box<dyn Error>> {
        let program = context.programs.join(name);
        let mut child = Command::new(&program)
            .arg(&context.folder)
            .arg(context.each.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!("{}: {error}; `cargo xtask bench` builds it", program.display())
            })?;
        let (stdin, stdout) =
            (child.stdin.take().ok_or("no stdin")?, child.stdout.take().ok_or("no stdout")?);
        let mut peer = Self { child, stdin, stdout: BufReader::new(stdout) };
        if peer.line()? != "ready" {
            return Err(format!("{name} could not start").into());
        }
        Ok(peer)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Returns the operations per second.
    fn rate(&mut self, operation: &str, threads: u32, count: usize) -> Result<f64, Box<dyn Error>> {
        writeln!(self.stdin, "{operation} {threads} {count}")?;
        let seconds: f64 = self.line()?.parse()?;
        Ok(count as f64 / seconds)
    }
}

/// Measures all rows of this group.
pub(crate) fn run(context: &Context) -> GroupResult {
    report_progress("blobs in malloc and in the pool");
    let mut peers: Vec<Peer> =
        PEERS.iter().map(|name| Peer::start(context, name)).collect::<Result<_, _>>()?;
    // One round without measuring brings every heap into the state that random replacement
    // leaves.
    for peer in &mut peers {
        peer.rate("replace", 1, context.mixed.len() * 2)?;
    }
    let mut rows = Vec::new();
    for (operation, threads, count, reach) in WORKLOADS {
        let mut samples: Vec<Samples> = vec![Samples::default(); peers.len()];
        for _ in 0..context.repetitions(5) {
            for (peer, samples) in peers.iter_mut().zip(&mut samples) {
                samples.push(peer.rate(operation, threads, count / context.count_divisor())?);
            }
        }
        let what = format!("blobs, random {operation}, {threads} thread(s)");
        rows.push(row(what, &samples, reach));
    }
    Ok(rows)
}

/// Returns the row of the pool against the fastest malloc.
fn row(what: String, samples: &[Samples], reach: f64) -> Row {
    let theirs = (1..PEERS.len())
        .max_by(|&a, &b| samples[a].median().total_cmp(&samples[b].median()))
        .unwrap_or(1);
    let name = |index: usize| PEERS[index].trim_start_matches("peer-");
    let all: Vec<String> = (0..PEERS.len())
        .map(|index| format!("{} {:.0} k/s", name(index), samples[index].median() / 1e3))
        .collect();
    Row::ratio(what, &samples[0], name(theirs), &samples[theirs], Unit::Rate)
        .must(Bound::AtLeast(reach))
        .note(all.join(", "))
}
