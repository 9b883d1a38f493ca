//! Memory that the server returns to the OS by itself after random trims, without further
//! requests.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::nbd::{DiskModel, Load, Workload};
use testkit::{PAGE_SIZE, permutation};

use crate::context::{Context, Effort, report_progress};
use crate::row::{Bound, GroupResult, Row, Samples, Unit};
use crate::servers::Server;

/// A mebibyte. Units: bytes.
const MIB: f64 = 1_048_576.0;

/// Bytes that the server may hold for each byte of frames in use.
const MAX_HELD_RATIO: f64 = 1.08;

/// Memory that the server may hold besides. Units: bytes.
const MAX_HELD_EXTRA: f64 = 8.0 * MIB;

/// Time in which the memory must be returned.
const RETURN_TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two readings of the server's memory.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Duration of the light load between two readings.
const LOAD_TIME: Duration = Duration::from_millis(5);

/// A history of the server before and after the trim.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    /// Before, twice as much was written, and its second half discarded.
    peak: bool,
    /// A balloon of a quarter of the disk, with a limit of 1.5 times the disk.
    balloon: bool,
    /// A load writes random pages for 1 % of the time after the trim.
    load: bool,
}

/// The result of a scenario.
struct ScenarioResult {
    scenario: Scenario,
    /// Resident bytes above those at the start.
    held: f64,
    /// The bound of `held`.
    allowed: f64,
    /// Time from the last trim to the last reading.
    took: Duration,
}

/// Measures one row for each share of the pages that is trimmed.
pub(crate) fn run(context: &Context) -> GroupResult {
    let percents: &[u64] = if context.effort == Effort::Full { &[50, 75, 90] } else { &[75] };
    percents.iter().map(|&percent| row(context, percent)).collect()
}

/// Returns the worst result of all eight scenarios, with the time that each took.
fn row(context: &Context, percent: u64) -> Result<Row, Box<dyn Error>> {
    let pages: u32 = if context.effort == Effort::Full { 262_144 } else { 32_768 };
    // Three bits of the number choose peak, balloon and load.
    let mut results = (0..8).map(|number| {
        let scenario =
            Scenario { peak: number & 1 != 0, balloon: number & 2 != 0, load: number & 4 != 0 };
        report_progress(&format!("memory returned after trims: {percent} %, {}", scenario.name()));
        run_scenario(context, scenario, pages, percent)
    });
    let results = results.by_ref().collect::<Result<Vec<_>, _>>()?;
    // The row is the scenario that exceeds its bound most; the note lists all.
    let worst =
        results.iter().max_by(|a, b| a.excess().total_cmp(&b.excess())).ok_or("no scenario ran")?;
    let written = (u64::from(pages) * PAGE_SIZE as u64) >> 20;
    let row = Row::ratio(
        format!(
            "{written} MiB written, {percent} % trimmed at random: RSS above that at the start"
        ),
        &Samples::one(worst.held),
        "1.08 of the frames in use + 8 MiB",
        &Samples::one(worst.allowed),
        Unit::Bytes,
    );
    let times: Vec<String> = results.iter().map(ScenarioResult::text).collect();
    let note = format!(
        "the worst of eight scenarios, each polled until it is met, for at most 30 s: {}",
        times.join(", ")
    );
    Ok(row.must(Bound::AtMost(1.0)).note(note))
}

fn run_scenario(
    context: &Context,
    scenario: Scenario,
    pages: u32,
    percent: u64,
) -> Result<ScenarioResult, Box<dyn Error>> {
    // The disk is twice the written size, so that a peak can be written beyond it.
    let size = u64::from(pages) * PAGE_SIZE as u64;
    let (limit, balloon) = ((3 * size).to_string(), (size / 2).to_string());
    let options: &[&str] =
        if scenario.balloon { &["--mem-limit", &limit, "--balloon", &balloon] } else { &[] };
    let server = Server::memzip_with(context, "lz4", 2 * size, options)?;
    let target = server.target();
    let at_start = server.resident()?;
    // Write twice as much before, and discard the second half.
    if scenario.peak {
        Load::whole_disk(&target, Workload::Fill).run(&DiskModel::new(&context.mixed, 2 * size))?;
    }
    let model = DiskModel::new(&context.mixed, size);
    if scenario.peak {
        let beyond: Arc<[u32]> = (pages..2 * pages).collect();
        Load { depth: 64, ..Load::whole_disk(&target, Workload::Trim(beyond)) }
            .run(&DiskModel::new(&context.mixed, 2 * size))?;
    }
    // Write the disk, trim random pages of it and wait for the memory.
    Load::whole_disk(&target, Workload::Fill).run(&model)?;
    let mut order = permutation(pages, percent);
    order.truncate((u64::from(pages) * percent / 100) as usize);
    Load { depth: 64, ..Load::whole_disk(&target, Workload::Trim(order.into())) }.run(&model)?;
    let result = wait(&server, scenario, at_start, &model)?;
    // The pages that were not trimmed must be unchanged.
    Load::whole_disk(&target, Workload::ReadAll).run(&model)?;
    Ok(result)
}

/// Reads the server's memory until the bound holds or the time is over.
fn wait(
    server: &Server,
    scenario: Scenario,
    at_start: f64,
    model: &DiskModel<'_>,
) -> Result<ScenarioResult, Box<dyn Error>> {
    let trimmed = Instant::now();
    for seed in 0.. {
        let held = server.resident()? - at_start;
        let used = server.stat()?["mem_used_total"]
            .as_f64()
            .ok_or("memzip stat --json has no mem_used_total")?;
        let (allowed, took) = (used * MAX_HELD_RATIO + MAX_HELD_EXTRA, trimmed.elapsed());
        if held <= allowed || took >= RETURN_TIMEOUT {
            return Ok(ScenarioResult { scenario, held, allowed, took });
        }
        if scenario.load {
            let writes = Load::whole_disk(&server.target(), Workload::RandomWrites);
            Load { seed, depth: 1, time: LOAD_TIME, ..writes }.run(model)?;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    unreachable!("the loop ends when the time is over")
}

impl Scenario {
    fn name(self) -> String {
        let parts = [(self.peak, "peak"), (self.balloon, "balloon"), (self.load, "load")];
        let named: Vec<&str> =
            parts.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
        if named.is_empty() { "idle".to_owned() } else { named.join("+") }
    }
}

impl ScenarioResult {
    fn excess(&self) -> f64 {
        self.held / self.allowed
    }

    fn text(&self) -> String {
        let [held, allowed] = [self.held, self.allowed].map(|bytes| bytes / MIB);
        format!(
            "{} {:.1} s ({held:.0} of {allowed:.0} MiB)",
            self.scenario.name(),
            self.took.as_secs_f64()
        )
    }
}
