//! Experiment E-1: the same discard pattern on the same real pages, and how dense the memory is before and after a compaction.

use testkit::Rng;
use testkit::corpus::Kind;

use crate::context::{Context, Outcome, tell};
use crate::density::{Subject, value};
use crate::row::{Reach, Row, Samples, Unit};

pub fn rows(context: &Context) -> Outcome {
    tell("density after discards and compaction");
    let cases = [
        (50, "kernel 6.18: 0.518 -> 0.968", 0.983),
        (60, "kernel 6.18: 0.427 -> 0.967, the original 0.430 -> 0.790", 0.983),
        (75, "kernel 6.18: 0.293 -> 0.958", 0.978),
        (90, "kernel 6.18: 0.166 -> 0.927", 0.965),
    ];
    let (mut rows, mut again) = (Vec::new(), 0);
    for (percent, against, reach) in cases {
        let mut subject = Subject::new(context.corpus.kind(Kind::Memory))?;
        subject.discard_at_random(percent, &mut Rng::new(percent));
        let before = subject.density();
        subject.compact();
        let row = value(format!("E-1: {percent} % discarded, density at the end"), subject.density(), against.into());
        rows.push(row.must(Reach::Least(reach)).note(format!("{before:.4} at the start {}", subject.remark())));
        again += subject.compact().objects_moved;
    }
    let row = Row::value("E-1: objects a second run moves", &Samples::one(again as f64), "the goal: none", Unit::Share);
    rows.push(row.must(Reach::Most(0.0)));
    Ok(rows)
}
