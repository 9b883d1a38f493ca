//! Maintenance of a served disk: compaction and reclaim in the background, and the balloon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use balloon::policy::Settings;
use balloon::{
    Auto, AutoError, Balloon, BalloonConfig, BalloonSource, OsHost, Resize, ResizeReport, Shortage,
    StopReason,
};
use frames::{FRAME_SIZE, FrameCount, Kswapd};
use parking_lot::Mutex;
use sys::host::PsiSource;
use thiserror::Error;
use zram::Zram;
use zsmalloc::{Background, BackgroundConfig};

use super::change_json::{BalloonChange, BalloonReport, BalloonTarget, PressureReport};

/// Interval at which pressure is read. The kernel updates its averages every two seconds.
const PRESSURE_INTERVAL: Duration = Duration::from_secs(1);
/// Time a call waits for balloon frames that compaction has isolated. They stay isolated for
/// microseconds while the compacting thread runs.
const ISOLATION_TIMEOUT: Duration = Duration::from_secs(1);

/// Settings of [`Maintenance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MaintenanceConfig {
    /// Target of the balloon at the start.
    pub(crate) balloon: BalloonTarget,
    /// How the balloon follows memory pressure in mode `auto`.
    pub(crate) pressure_settings: Settings,
    /// Share of one CPU for compaction in the background, in percent; `None` turns it off.
    pub(crate) background: Option<u8>,
}

/// The maintenance of one disk. Its threads stop when it is dropped.
#[derive(Debug)]
pub(crate) struct Maintenance {
    pub(super) balloon: Arc<Balloon>,
    source: BalloonSource,
    /// Held while a target is set, so that mode and target match, but not while the balloon moves.
    mode: Mutex<BalloonMode>,
    pub(super) config: MaintenanceConfig,
    _background: Option<Background>,
    _kswapd: Kswapd,
}

/// The setter of the balloon's target.
#[derive(Debug)]
enum BalloonMode {
    Off,
    Fixed,
    Auto(Auto),
}

/// Reason why a balloon target is refused; the balloon stays as it is.
#[derive(Debug, Error)]
pub(crate) enum BalloonRefusal {
    /// The target is larger than the arena.
    #[error(
        "a balloon of {asked} bytes is too large: at most {max} bytes are possible, counting memory that stored content uses"
    )]
    ExceedsArena { asked: u64, max: u64 },
    /// On a disk without a limit a fixed size has no memory to take.
    #[error(
        "a balloon of a fixed size needs a memory limit, and this disk has none: set --mem-limit, or use \"--balloon auto\""
    )]
    NoLimit,
    /// Memory pressure cannot be followed.
    #[error(transparent)]
    Auto(#[from] AutoError),
}

impl Maintenance {
    /// Starts the maintenance of a disk.
    ///
    /// # Errors
    /// The balloon is refused, or a thread cannot be started.
    pub(crate) fn start(disk: &Zram, config: MaintenanceConfig) -> Result<Self> {
        // Without a limit the store grows all the same, so only committed memory is worth taking.
        let has_limit = disk.config().mem_limit.is_some();
        let source =
            if has_limit { BalloonSource::FreeFrames } else { BalloonSource::CommittedFrames };
        // Checked before the threads start.
        if !has_limit && matches!(config.balloon, BalloonTarget::Bytes(1..)) {
            return Err(BalloonRefusal::NoLimit).context("cannot set up the balloon");
        }
        let settings = BalloonConfig { source, ..BalloonConfig::default() };
        let balloon = Balloon::new(Arc::clone(disk.zone()), Arc::new(OsHost), settings)?;
        let background = config.background.map(|cpu_percent| {
            let settings = BackgroundConfig { cpu_percent, ..BackgroundConfig::default() };
            Background::start(disk.pool(), settings)
        });
        let maintenance = Self {
            balloon,
            source,
            mode: Mutex::new(BalloonMode::Off),
            config,
            _background: background.transpose().context("cannot compact in the background")?,
            _kswapd: Kswapd::start(disk.zone()).context("cannot reclaim in the background")?,
        };
        maintenance.set_balloon(config.balloon).context("cannot set up the balloon")?;
        Ok(maintenance)
    }

    /// Sets the target of the balloon and moves towards it. Returns when the target is reached,
    /// cannot be reached, or another caller has set a new one.
    ///
    /// # Errors
    /// The target is refused; the balloon stays as it is.
    pub(crate) fn set_balloon(
        &self,
        target: BalloonTarget,
    ) -> Result<BalloonChange, BalloonRefusal> {
        let before = self.held();
        let outcome = match target {
            BalloonTarget::Auto => {
                self.follow_pressure()?;
                "following pressure".to_owned()
            }
            BalloonTarget::Off => self.set_target(BalloonMode::Off, FrameCount(0)),
            BalloonTarget::Bytes(asked) => {
                let max = self.balloon.max_target().bytes();
                if asked > max && self.source == BalloonSource::FreeFrames {
                    return Err(BalloonRefusal::ExceedsArena { asked, max });
                }
                self.set_target(BalloonMode::Fixed, FrameCount::holding(asked))
            }
        };
        let freed = before.saturating_sub(self.held());
        Ok(BalloonChange { outcome, freed, balloon: self.balloon_report() })
    }

    fn follow_pressure(&self) -> Result<(), AutoError> {
        let mut mode = self.mode.lock();
        if matches!(*mode, BalloonMode::Auto(_)) {
            return Ok(());
        }
        let (balloon, source) = (Arc::clone(&self.balloon), PsiSource::this_process());
        let settings = self.config.pressure_settings;
        *mode = BalloonMode::Auto(Auto::start(balloon, source, settings, PRESSURE_INTERVAL)?);
        // Start at the current size: a call on its way to an older target stops.
        self.balloon.keep_current_size();
        Ok(())
    }

    /// Sets target and mode in one step, so that one caller sets both, and moves to the target.
    fn set_target(&self, mode: BalloonMode, target: FrameCount) -> String {
        let mut current = self.mode.lock();
        // Stop following pressure first, so that no new target from there replaces this one.
        if let BalloonMode::Auto(auto) = &*current {
            auto.stop();
        }
        let resize = self.balloon.start_resize(target);
        let before = std::mem::replace(&mut *current, mode);
        drop(current);
        // This joins the old mode's thread after its current step, which the new target cuts short.
        drop(before);
        outcome_text(resize.map_or_else(|refused| refused, |resize| run_while_isolated(&resize)))
    }

    /// Returns the memory the arena holds, without the balloon's. Units: bytes.
    fn held(&self) -> u64 {
        let stats = self.balloon.zone().stats();
        stats.committed.bytes().saturating_sub(stats.ballooned.bytes())
    }

    /// Returns the state of the balloon.
    pub(super) fn balloon_report(&self) -> BalloonReport {
        let current = self.mode.lock();
        let stats = self.balloon.stats();
        let (mode, pressure) = match &*current {
            BalloonMode::Off => ("off", None),
            BalloonMode::Fixed => ("fixed", None),
            BalloonMode::Auto(auto) => ("auto", Some(pressure(auto))),
        };
        drop(current);
        let bytes = |frames: u64| FrameCount(frames).bytes();
        BalloonReport {
            mode: mode.to_owned(),
            target: stats.target.bytes(),
            actual: stats.actual.bytes(),
            most: self.balloon.max_target().bytes(),
            held: self.held(),
            in_blocks: (stats.actual.0 - stats.frames.0) * FRAME_SIZE as u64,
            inflated_total: bytes(stats.inflated_total),
            deflated_total: bytes(stats.deflated_total),
            oom_deflated_total: bytes(stats.oom_deflated_total),
            host_refusals: stats.host_refusals,
            allocation_failures: stats.allocation_failures,
            pressure,
        }
    }
}

fn pressure(auto: &Auto) -> PressureReport {
    let state = auto.state();
    PressureReport {
        source: PsiSource::this_process().path().display().to_string(),
        some_avg10: state.psi.map(|psi| psi.some.avg10.get()),
        some_avg60: state.psi.map(|psi| psi.some.avg60.get()),
        problem: state.problem.map(|problem| problem.to_string()),
        readings: state.readings,
        failures: state.failures,
        raised: state.raised,
        lowered: state.lowered,
    }
}

/// Moves to the target; tries again while compaction has isolated the remaining frames.
fn run_while_isolated(resize: &Resize<'_>) -> ResizeReport {
    let start = Instant::now();
    loop {
        let change = resize.run();
        let is_isolated = matches!(change.stop, StopReason::Isolated { .. });
        if !is_isolated || start.elapsed() > ISOLATION_TIMEOUT {
            return change;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn outcome_text(change: ResizeReport) -> String {
    match change.stop {
        StopReason::Reached if change.is_capped() => {
            "reached, limited to what the arena can give now".to_owned()
        }
        StopReason::Reached => "reached".to_owned(),
        StopReason::NoMemory(Shortage::Memory) => "the arena holds no more free memory".to_owned(),
        StopReason::NoMemory(Shortage::Reserve) => "the arena keeps the rest in reserve".to_owned(),
        StopReason::NoMemory(Shortage::Zone(error)) => {
            format!("the arena has no more memory to give: {error}")
        }
        StopReason::Refused(refusal) => format!("the system refused more memory: {refusal}"),
        StopReason::Superseded => {
            "another target was set meanwhile, or the store needed the memory".to_owned()
        }
        StopReason::Isolated { left } => format!("{left} are being moved: try again"),
        StopReason::Reentered => "the balloon is being resized by the same thread".to_owned(),
    }
}
