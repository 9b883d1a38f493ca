//! Experiment E-1: the same discards of the same real pages in memzip and in the kernel's zram,
//! and the density before and after a compaction.

use std::io;

use testkit::Page;
use testkit::corpus::Kind;

use crate::context::{Context, report_progress};
use crate::density::against_kernel;
use crate::row::{Bound, GroupResult, Row, Samples, Unit};
use crate::tracked_disk::{TrackedDisk, discard_at_random};
use crate::zram_device::KernelZram;

/// Percent of pages that are discarded, and the bound of the density.
const CASES: [(u64, f64); 4] = [(50, 0.983), (60, 0.983), (75, 0.978), (90, 0.965)];

/// Measures all rows of this part.
pub(crate) fn rows(context: &Context) -> GroupResult {
    report_progress("density after discards and compaction");
    let pages = context.kind(Kind::Memory);
    let (mut rows, mut again) = (Vec::new(), 0);
    for (percent, reach) in CASES {
        let mut tracked = TrackedDisk::new(pages)?;
        tracked.discard_at_random(percent)?;
        let before = tracked.density();
        let done = tracked.compact();
        let kernel = in_the_kernel(pages, percent);
        let theirs = kernel.as_ref().map_or_else(
            |_| "the kernel's frag ratio was not measured".to_owned(),
            |(start, end)| format!("the kernel's frag ratio {start:.4} -> {end:.4}"),
        );
        let what = format!("E-1: {percent} % discarded, density at the end");
        let row = against_kernel(what, tracked.density(), &kernel.map(|(_, end)| end));
        let row = if percent == 75 { row.headline() } else { row };
        rows.push(row.must(Bound::AtLeast(reach)).note(format!(
            "frag ratio {before:.4} -> {:.4}, num_migrated {}; {theirs} {}",
            tracked.density(),
            done.objects_moved,
            tracked.remark()
        )));
        // A second compaction must find nothing to move.
        again += tracked.compact().objects_moved;
    }
    let row = Row::value(
        "E-1: objects a second run moves",
        &Samples::one(again as f64),
        "the goal: none",
        Unit::Count,
    );
    rows.push(row.must(Bound::AtMost(0.0)));
    Ok(rows)
}

/// Makes the same discards in the kernel's zram. Returns the density before and after compaction.
fn in_the_kernel(pages: &[Page], percent: u64) -> io::Result<(f64, f64)> {
    let kernel = KernelZram::filled(pages)?;
    discard_at_random(&kernel, pages.len(), percent)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let before = kernel.density()?;
    kernel.compact()?;
    Ok((before, kernel.density()?))
}
