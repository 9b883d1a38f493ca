//! The kernel's zram, with `O_DIRECT` reads and writes of single pages, against the store: in
//! process, and over NBD one request at a time.
//!
//! A call into a library does less than a block device, so the in-process row alone would favour
//! memzip. The NBD row is what a client of a block device gets: it pays for two processes and a
//! socket where the kernel's zram pays for a system call.

use std::error::Error;
use std::time::{Duration, Instant};

use fastrand::Rng;
use testkit::nbd::{Check, DiskModel, Load, Workload};
use testkit::{PAGE_SIZE, Page};
use zcomp::Algorithm;

use crate::context::{Context, report_progress};
use crate::disk::Disk;
use crate::row::{Bound, GroupResult, Row, Samples, Unit, Verdict};
use crate::servers::Server;
use crate::zram_device::{KernelZram, kernel_name};

/// Times per page of one operation. Units: seconds.
#[derive(Default)]
struct Times {
    kernel: Samples,
    process: Samples,
    nbd: Samples,
}

/// Measures all rows of this group.
pub(crate) fn run(context: &Context) -> GroupResult {
    report_progress("kernel zram");
    let pages = &context.mixed;
    let kernel = match KernelZram::filled(pages) {
        Ok(kernel) => kernel,
        Err(error) => {
            let why = format!(
                "the kernel's zram cannot be used (it needs root and the zram module): {error}"
            );
            return Ok(vec![Row::without("against kernel zram, lz4", Verdict::Skipped, why)]);
        }
    };
    // Fill a store in process and a server with the same pages.
    let ours = Disk::filled(pages, Algorithm::Lz4 { acceleration: 1 })?;
    let size = (pages.len() * PAGE_SIZE) as u64;
    let server = Server::memzip(context, "lz4", size)?;
    let model = DiskModel::new(pages, size);
    Load::whole_disk(&server.target(), Workload::Fill).run(&model)?;
    let (mut reads, mut writes) = (Times::default(), Times::default());
    let len = u32::try_from(pages.len())?;
    for seed in 0..context.repetitions(7) as u64 {
        // The kernel and the store in process execute the same reads and writes.
        let mut rng = Rng::with_seed(seed);
        let order: Vec<(u32, u32)> = (0..len).map(|_| (rng.u32(..len), rng.u32(..len))).collect();
        let mut page = Page::zeroed();
        reads
            .kernel
            .push(each(len, || order.iter().try_for_each(|&(at, _)| kernel.read(at, &mut page)))?);
        reads.process.push(each(len, || {
            order.iter().for_each(|&(at, _)| ours.read(at, &mut page));
            Ok(())
        })?);
        reads.nbd.push(over_nbd(context, &server, &model, Workload::RandomReads, seed)?);
        let write = |&(at, source): &(u32, u32)| kernel.write(at, &pages[source as usize]);
        writes.kernel.push(each(len, || order.iter().try_for_each(write))?);
        writes.process.push(each(len, || {
            order.iter().for_each(|&(at, source)| ours.write(at, &pages[source as usize]));
            Ok(())
        })?);
        writes.nbd.push(over_nbd(context, &server, &model, Workload::RandomWrites, seed)?);
    }
    // Each row compares how many times faster memzip is, so the ratio is inverted.
    let kernel = format!("{}, O_DIRECT", kernel_name());
    let row = |what: &str, ours: &Samples, theirs: &Samples, reach| {
        Row::ratio(what, ours, &kernel, theirs, Unit::Seconds)
            .comparing(theirs.paired(ours, |theirs, ours| theirs / ours))
            .must(reach)
            .note("times per page; compared is how many times faster memzip is")
    };
    Ok(vec![
        row(
            "random overwrite, lz4, in process",
            &writes.process,
            &writes.kernel,
            Bound::AtLeast(1.3),
        ),
        row("random overwrite, lz4, over NBD at depth 1", &writes.nbd, &writes.kernel, Bound::Info),
        row("random read, lz4, in process", &reads.process, &reads.kernel, Bound::AtLeast(1.1)),
        row("random read, lz4, over NBD at depth 1", &reads.nbd, &reads.kernel, Bound::Info)
            .headline(),
    ])
}

/// Times `work` on `count` pages. Units: seconds per page.
fn each(count: u32, work: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() / f64::from(count))
}

/// Times a load of one connection with one request at a time. Units: seconds per page.
fn over_nbd(
    context: &Context,
    server: &Server,
    model: &DiskModel<'_>,
    work: Workload,
    seed: u64,
) -> Result<f64, Box<dyn Error>> {
    let time = context.load_time().min(Duration::from_secs(1));
    let load = Load {
        depth: 1,
        check: Check::Length,
        time,
        seed,
        ..Load::whole_disk(&server.target(), work)
    };
    Ok(1.0 / load.run(model)?.rate())
}
