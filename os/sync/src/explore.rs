//! Runs a model under loom and reports a search that the time limit ended. loom itself returns from
//! it as from a complete one, so that an incomplete test would look like a proof.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loom::model::Builder;

/// Runs a closure under every interleaving of its threads that the limits in `LOOM_*` allow. Prints
/// how many schedules ran, and whether the time limit ended the search.
pub fn model(check: impl Fn() + Sync + Send + 'static) {
    let schedules = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&schedules);
    let limits = Builder::new();
    let start = Instant::now();
    loom::model(move || {
        // Relaxed: loom runs one schedule at a time, and the count orders nothing.
        seen.fetch_add(1, Ordering::Relaxed);
        crate::shard::begin_schedule();
        check();
    });
    // Relaxed: loom's threads are fibers of this thread.
    let schedules = schedules.load(Ordering::Relaxed);
    let elapsed = start.elapsed();
    let bound =
        limits.preemption_bound.map_or("any number of".to_owned(), |bound| bound.to_string());
    if is_cut_off(&limits, schedules, elapsed) {
        // `cargo xtask loom` looks for the first words.
        println!("CUT OFF: after {} s and {schedules} schedules", elapsed.as_secs());
    } else {
        println!("all {schedules} schedules with {bound} preemptions");
    }
}

/// Returns whether a limit ended the search before all schedules had run. loom checks its limits
/// before each schedule whose number is a multiple of the interval.
fn is_cut_off(limits: &Builder, schedules: u64, elapsed: Duration) -> bool {
    let interval = limits.checkpoint_interval as u64;
    let is_checkpoint = interval > 0 && (schedules + 1).is_multiple_of(interval);
    let by_time = limits.max_duration.is_some_and(|max| elapsed >= max);
    let by_count = limits.max_permutations.is_some_and(|max| schedules + 1 >= max as u64);
    is_checkpoint && (by_time || by_count)
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    #[test]
    fn loom_reports_a_search_that_was_cut_off() {
        let mut limits = Builder::new();
        limits.checkpoint_interval = 10;
        limits.max_permutations = None;
        limits.max_duration = Some(Duration::from_secs(5));
        assert!(is_cut_off(&limits, 19, Duration::from_secs(6)));
        assert!(!is_cut_off(&limits, 19, Duration::from_secs(4)), "complete in time");
        assert!(!is_cut_off(&limits, 25, Duration::from_secs(6)), "complete after the last check");
        limits.max_duration = None;
        assert!(!is_cut_off(&limits, 19, Duration::from_secs(6)), "no limit");
    }

    /// Shows that loom itself stops where `is_cut_off` expects it to.
    #[test]
    fn loom_stops_one_schedule_before_a_checkpoint() {
        let run = |max_duration| {
            let mut limits = Builder::new();
            limits.checkpoint_interval = 4;
            limits.max_duration = max_duration;
            limits.max_permutations = None;
            let schedules = Arc::new(AtomicU64::new(0));
            let seen = Arc::clone(&schedules);
            limits.check(move || {
                // Relaxed: loom runs one schedule at a time.
                seen.fetch_add(1, Ordering::Relaxed);
                let word = loom::sync::Arc::new(AtomicUsize::new(0));
                let other = thread::spawn({
                    let word = loom::sync::Arc::clone(&word);
                    // Relaxed: only the number of schedules matters.
                    move || (0..3).for_each(|_| _ = word.fetch_add(1, Ordering::Relaxed))
                });
                (0..3).for_each(|_| _ = word.fetch_add(1, Ordering::Relaxed));
                other.join().expect("no panic");
            });
            // Relaxed: the search is over.
            let schedules = schedules.load(Ordering::Relaxed);
            (schedules, is_cut_off(&limits, schedules, Duration::from_secs(1)))
        };
        let (all, complete_is_cut) = run(None);
        let (some, is_cut) = run(Some(Duration::ZERO));
        assert_eq!((some, is_cut, complete_is_cut), (3, true, false));
        assert!(all > some, "{all} schedules in all");
    }
}
