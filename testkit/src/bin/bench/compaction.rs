//! Object compaction: the gain, the time, and the effect on readers and writers.

mod background;
mod gain;
mod speed;
mod readers;
mod migration;

use crate::context::Context;
use crate::row::GroupResult;

/// Measures all rows of this group.
pub(crate) fn run(context: &Context) -> GroupResult {
    let mut rows = gain::rows(context)?;
    rows.append(&mut speed::rows(context)?);
    rows.append(&mut background::rows(context)?);
    rows.append(&mut readers::rows(context)?);
    rows.append(&mut migration::rows(context)?);
    Ok(rows)
}
