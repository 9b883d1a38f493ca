//! The share of client data in the memory of zspages: fresh and after churn, against the kernel's
//! zram with the same pages in the same order. The compaction rows cover discards and compaction.
//!
//! memzip's live bytes are added up here from the bare codec's lengths, not taken from the store.
//! The kernel's live bytes are its own count (`compr_data_size`), because its limit between
//! compressed and raw pages differs.

use std::error::Error;
use std::io;

use fastrand::Rng;
use testkit::corpus::Kind;
use testkit::{PAGE_SIZE, Page};

use crate::context::{Context, Effort, report_progress};
use crate::row::{Bound, GroupResult, Row, Samples, Unit};
use crate::tracked_disk::{TrackedDisk, choose_overwrite};
use crate::zram_device::{KernelZram, kernel_name};

/// Measures all rows of this group.
pub(crate) fn run(context: &Context) -> GroupResult {
    report_progress("density, fresh");
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let pages = context.kind(kind);
        let tracked = TrackedDisk::new(pages)?;
        let kernel = KernelZram::filled(pages).and_then(|kernel| kernel.density());
        let row =
            against_kernel(format!("density, fresh, {}", kind.name()), tracked.density(), &kernel);
        rows.push(row.must(Bound::AtLeast(0.983)).note(tracked.remark()));
    }
    rows.append(&mut churn(context)?);
    rows.push(everything(context)?);
    Ok(rows)
}

/// Returns a row of one density against the kernel's, or against the reason why the kernel's was
/// not measured.
pub(crate) fn against_kernel(what: String, density: f64, kernel: &io::Result<f64>) -> Row {
    match kernel {
        Ok(kernel) => {
            let (ours, theirs) = (Samples::one(density), Samples::one(*kernel));
            Row::ratio(what, &ours, kernel_name(), &theirs, Unit::Share).comparing(ours)
        }
        Err(why) => value(what, density, format!("kernel zram: not measured ({why})")),
    }
}

/// Returns a row of one density.
pub(crate) fn value(what: String, density: f64, against: String) -> Row {
    Row::value(what, &Samples::one(density), against, Unit::Share)
}

fn churn(context: &Context) -> GroupResult {
    let count = if context.effort == Effort::Full { 3_000_000 } else { 100_000 };
    report_progress(&format!("density after {count} random overwrites"));
    // Overwrite the same pages in the same order in both stores.
    let pages = context.kind(Kind::Memory);
    let mut tracked = TrackedDisk::new(pages)?;
    let mut rng = Rng::with_seed(3);
    for _ in 0..count {
        tracked.overwrite_one(&mut rng);
    }
    report_progress("the same in the kernel's zram");
    let (kernel_before, kernel_after, freed) = match kernel_churn(pages, count) {
        Ok((before, after, freed)) => (Ok(before), Ok(after), format!("{freed} frames")),
        Err(why) => (Err(io::Error::other(why.to_string())), Err(why), "not measured".into()),
    };
    // Measure before the compaction and after it.
    let what = |when| format!("density, {count} random overwrites, {when}");
    let before = tracked.density();
    let before_row = against_kernel(what("before compaction"), before, &kernel_before);
    let done = tracked.compact();
    let after = against_kernel(what("compacted"), tracked.density(), &kernel_after);
    let note = format!(
        "frag ratio {before:.4} -> {:.4}, num_migrated {}, {} frames freed; by the kernel's compaction: {freed} {}",
        tracked.density(),
        done.objects_moved,
        done.frames_freed,
        tracked.remark()
    );
    Ok(vec![before_row.must(Bound::AtLeast(0.955)), after.must(Bound::AtLeast(0.98)).note(note)])
}

/// Makes the same overwrites in the kernel's zram. Returns the density before and after
/// compaction,
/// and the frames that it freed.
fn kernel_churn(pages: &[Page], count: usize) -> io::Result<(f64, f64, u64)> {
    let kernel = KernelZram::filled(pages)?;
    let mut rng = Rng::with_seed(3);
    for _ in 0..count {
        let (at, source) = choose_overwrite(pages.len(), &mut rng);
        kernel.write(at, &pages[source as usize])?;
    }
    let before = kernel.density()?;
    let freed = kernel.compact()?;
    Ok((before, kernel.density()?, freed))
}

/// Measures everything that the device holds, slots and descriptors included.
fn everything(context: &Context) -> Result<Row, Box<dyn Error>> {
    report_progress("mem_total over live bytes");
    let tracked = TrackedDisk::new(&context.mixed)?;
    let (total, live) = (tracked.disk().total() as f64, tracked.live() as f64);
    let what =
        format!("mem_total over live bytes, {} MiB", (context.mixed.len() * PAGE_SIZE) >> 20);
    let row =
        Row::ratio(what, &Samples::one(total), "live bytes", &Samples::one(live), Unit::Bytes);
    Ok(row.must(Bound::AtMost(1.035)).note(tracked.remark()).headline())
}
