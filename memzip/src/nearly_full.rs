//! The line on standard error that warns that the memory limit is near.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use zram::NearlyFull;

use crate::output;
use crate::sizes::human;

/// Minimum time between two such lines.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Prints one line, unless one was printed in the last ten seconds.
///
/// The counter in `memzip stat` counts every call.
pub(crate) fn warn(near: NearlyFull) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    if is_due(&mut LAST.lock(), Instant::now()) {
        let NearlyFull { needed, limit } = near;
        // Not eprintln, since this is a connection's thread: eprintln blocks while a pipe is full
        // and panics when the terminal is gone.
        output::warn(&format!(
            "nearly full: {} of --mem-limit {} are needed; writes will fail at the limit",
            human(needed),
            human(limit)
        ));
    }
}

fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= MIN_INTERVAL);
    if is_due {
        *last = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds() {
        let start = Instant::now();
        let mut last = None;
        let due = [0, 1, 9, 10, 11, 19, 20, 60]
            .map(|second| is_due(&mut last, start + Duration::from_secs(second)));
        assert_eq!(due, [true, false, false, true, false, false, true, true]);
    }
}
