//! How much of the memory held is client data: fresh, and after churn. After discards and compaction: see the rows of compaction.
//!
//! Live bytes are summed up here, from the lengths the bare codec gives, and not taken from the store.

use std::error::Error;
use std::sync::Arc;

use testkit::corpus::Kind;
use testkit::{PAGE_SIZE, Page, Rng};
use zcomp::Algorithm;
use zsmalloc::{ChainRule, Compaction, Pool, SizeClasses};

use crate::codec;
use crate::context::{Context, Effort, Outcome, tell};
use crate::disk::Disk;
use crate::row::{Reach, Row, Samples, Unit};

const LZ4: Algorithm = Algorithm::Lz4 { acceleration: 1 };

/// A device, and what we know it holds.
pub struct Subject<'a> {
    disk: Disk,
    pages: &'a [Page],
    /// Stored bytes of every page of `pages`.
    lengths: Vec<u64>,
    /// Which of `pages` lies in every page of the disk.
    held: Vec<Option<u32>>,
}

impl<'a> Subject<'a> {
    /// A device filled with these pages.
    pub fn new(pages: &'a [Page]) -> Result<Self, Box<dyn Error>> {
        let classes = SizeClasses::new(frames::MAX_CHAIN, ChainRule::LeastWaste);
        // What would not fit below the huge class is stored as it came: that is a page of live bytes, here as in the kernel.
        let stored = |len: u64| if len > classes.largest_with_header() as u64 { PAGE_SIZE as u64 } else { len };
        let lengths = codec::lengths(LZ4, pages)?.into_iter().map(stored).collect();
        let held = (0..u32::try_from(pages.len())?).map(Some).collect();
        Ok(Self { disk: Disk::filled(pages, LZ4)?, pages, lengths, held })
    }

    /// Live bytes, summed up from the bare codec's lengths.
    pub fn live(&self) -> u64 {
        self.held.iter().flatten().map(|&page| self.lengths[page as usize]).sum()
    }

    /// Live bytes over bytes of the frames of zspages.
    pub fn density(&self) -> f64 {
        self.live() as f64 / self.disk.used().max(1) as f64
    }

    /// Forgets so many percent of the pages.
    pub fn discard_at_random(&mut self, percent: u64, rng: &mut Rng) {
        let mut order = rng.permutation(u32::try_from(self.held.len()).unwrap_or(u32::MAX));
        order.truncate((order.len() as u64 * percent / 100) as usize);
        for at in order {
            self.disk.discard(at);
            self.held[at as usize] = None;
        }
    }

    /// Object compaction, as long as it takes.
    pub fn compact(&self) -> Compaction {
        self.disk.compact()
    }

    /// One random overwrite; by how much that changed the live bytes.
    pub fn overwrite_one(&mut self, rng: &mut Rng) -> i64 {
        let (at, source) = (rng.index(self.held.len()), rng.index(self.pages.len()));
        self.disk.write(at as u32, &self.pages[source]);
        let old = self.held[at].replace(source as u32);
        let len = |page: u32| self.lengths[page as usize].cast_signed();
        len(source as u32) - old.map_or(0, len)
    }

    /// The pool underneath.
    pub fn pool(&self) -> &Arc<Pool> {
        self.disk.pool()
    }

    fn overwrite_at_random(&mut self, count: usize, rng: &mut Rng) {
        for _ in 0..count {
            self.overwrite_one(rng);
        }
    }

    /// Where the store's own count of live bytes is not ours, the reader must know.
    pub fn remark(&self) -> String {
        let (counted, ours) = (self.disk.live(), self.live());
        if counted == ours {
            return String::new();
        }
        format!("the store counts {counted} live bytes, the bare codec's lengths sum up to {ours}")
    }
}

/// All rows of this group.
pub fn run(context: &Context) -> Outcome {
    tell("density, fresh");
    let mut rows = Vec::new();
    for (kind, kernel) in Kind::ALL.into_iter().zip(["0.966", "0.975", "0.973"]) {
        let subject = Subject::new(context.corpus.kind(kind))?;
        let row =
            value(format!("density, fresh, {}", kind.name()), subject.density(), format!("kernel 6.18: {kernel}"));
        rows.push(row.must(Reach::Least(0.983)).note(subject.remark()));
    }
    rows.append(&mut churn(context)?);
    rows.push(everything(context)?);
    Ok(rows)
}

/// A row of one density.
pub fn value(what: String, density: f64, against: String) -> Row {
    Row::value(what, &Samples::one(density), against, Unit::Share)
}

fn churn(context: &Context) -> Outcome {
    let count = if context.effort == Effort::Full { 3_000_000 } else { 300_000 };
    tell(&format!("density after {count} random overwrites"));
    let mut subject = Subject::new(context.corpus.kind(Kind::Memory))?;
    subject.overwrite_at_random(count, &mut Rng::new(3));
    let what = |when| format!("density, {count} random overwrites, {when}");
    let before = value(what("before compaction"), subject.density(), "kernel 6.18: 0.948".into());
    subject.disk.compact();
    let after = value(what("compacted"), subject.density(), "kernel 6.18: 0.973".into());
    Ok(vec![before.must(Reach::Least(0.955)), after.must(Reach::Least(0.98)).note(subject.remark())])
}

/// Everything the device holds, slots and descriptors included.
fn everything(context: &Context) -> Result<Row, Box<dyn Error>> {
    tell("mem_total over live bytes");
    let subject = Subject::new(&context.mixed)?;
    let (total, live) = (subject.disk.total() as f64, subject.live() as f64);
    let what = format!("mem_total over live bytes, {} MiB", (context.mixed.len() * PAGE_SIZE) >> 20);
    let row = Row::ratio(what, &Samples::one(total), "live bytes", &Samples::one(live), Unit::Bytes);
    Ok(row.must(Reach::Most(1.035)).note(subject.remark()))
}
