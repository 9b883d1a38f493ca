//! Object compaction: the gain, the time, and the effect on readers and writers.

mod background;
mod gain;
mod migration;
mod readers;
mod speed;

use crate::context::{Context, GroupResult};

/// Measures all rows of this group.
pub fn run(context: &Context) -> GroupResult {
    let mut rows = gain::rows(context)?;
    rows.append(&mut speed::rows(context)?);
    rows.append(&mut background::rows(context)?);
    rows.append(&mut readers::rows(context)?);
    rows.append(&mut migration::rows(context)?);
    Ok(rows)
}
