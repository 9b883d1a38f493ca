//! How much of the memory held is client data: fresh, and after churn, beside the kernel's zram
//! with the same pages in the same order. After discards and compaction: see the rows of
//! compaction.
//!
//! Our live bytes are summed up here, from the lengths the bare codec gives, and not taken from the
//! store. The kernel's are its own count (`compr_data_size`), since it draws the line between
//! compressed and raw pages elsewhere.

use std::error::Error;
use std::io;

use testkit::corpus::Kind;
use testkit::{PAGE_SIZE, Page, Rng};

use crate::context::{Context, Effort, Outcome, tell};
use crate::row::{Reach, Row, Samples, Unit};
use crate::subject::{Subject, choose_overwrite};
use crate::zram_device::{KernelZram, kernel_name};

/// All rows of this group.
pub fn run(context: &Context) -> Outcome {
    tell("density, fresh");
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let pages = context.kind(kind);
        let subject = Subject::new(pages)?;
        let kernel = KernelZram::filled(pages).and_then(|kernel| Ok(kernel.mm_stat()?.density()));
        let row =
            against_kernel(format!("density, fresh, {}", kind.name()), subject.density(), &kernel);
        rows.push(row.must(Reach::Least(0.983)).note(subject.remark()));
    }
    rows.append(&mut churn(context)?);
    rows.push(everything(context)?);
    Ok(rows)
}

/// A row of one density beside the kernel's, which was measured in this run or is said not to have
/// been.
pub fn against_kernel(what: String, density: f64, kernel: &io::Result<f64>) -> Row {
    match kernel {
        Ok(kernel) => {
            let (ours, theirs) = (Samples::one(density), Samples::one(*kernel));
            Row::ratio(what, &ours, kernel_name(), &theirs, Unit::Share).comparing(ours)
        }
        Err(why) => value(what, density, format!("kernel zram: not measured ({why})")),
    }
}

/// A row of one density.
pub fn value(what: String, density: f64, against: String) -> Row {
    Row::value(what, &Samples::one(density), against, Unit::Share)
}

fn churn(context: &Context) -> Outcome {
    let count = if context.effort == Effort::Full { 3_000_000 } else { 100_000 };
    tell(&format!("density after {count} random overwrites"));
    let pages = context.kind(Kind::Memory);
    let mut subject = Subject::new(pages)?;
    let mut rng = Rng::new(3);
    for _ in 0..count {
        subject.overwrite_one(&mut rng);
    }
    tell("the same in the kernel's zram");
    let (kernel_before, kernel_after, freed) = match kernel_churn(pages, count) {
        Ok((before, after, freed)) => (Ok(before), Ok(after), format!("{freed} frames")),
        Err(why) => (Err(io::Error::other(why.to_string())), Err(why), "not measured".into()),
    };
    let what = |when| format!("density, {count} random overwrites, {when}");
    let before = subject.density();
    let before_row = against_kernel(what("before compaction"), before, &kernel_before);
    let done = subject.compact();
    let after = against_kernel(what("compacted"), subject.density(), &kernel_after);
    let note = format!(
        "frag ratio {before:.4} -> {:.4}, num_migrated {}, {} frames freed; by the kernel's compaction: {freed} {}",
        subject.density(),
        done.objects_moved,
        done.frames_freed,
        subject.remark()
    );
    Ok(vec![before_row.must(Reach::Least(0.955)), after.must(Reach::Least(0.98)).note(note)])
}

/// The same overwrites in the same order: density before and after compaction, and frames that
/// freed.
fn kernel_churn(pages: &[Page], count: usize) -> io::Result<(f64, f64, u64)> {
    let kernel = KernelZram::filled(pages)?;
    let mut rng = Rng::new(3);
    for _ in 0..count {
        let (at, source) = choose_overwrite(pages.len(), &mut rng);
        kernel.write(at, &pages[source as usize])?;
    }
    let before = kernel.mm_stat()?.density();
    let freed = kernel.compact()?;
    Ok((before, kernel.mm_stat()?.density(), freed))
}

/// Everything the device holds, slots and descriptors included.
fn everything(context: &Context) -> Result<Row, Box<dyn Error>> {
    tell("mem_total over live bytes");
    let subject = Subject::new(&context.mixed)?;
    let (total, live) = (subject.disk().total() as f64, subject.live() as f64);
    let what =
        format!("mem_total over live bytes, {} MiB", (context.mixed.len() * PAGE_SIZE) >> 20);
    let row =
        Row::ratio(what, &Samples::one(total), "live bytes", &Samples::one(live), Unit::Bytes);
    Ok(row.must(Reach::Most(1.035)).note(subject.remark()).headline())
}
