//! What moves memory of a served disk by itself: compaction and reclaim in the background, and the balloon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use balloon::policy::Settings;
use balloon::{
    Auto, AutoError, Balloon, BalloonConfig, BalloonSource, OsHost, Resize, ResizeReport, Shortage,
    StopReason,
};
use frames::{FRAME_SIZE, FrameCount, Kswapd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use sys::host::PsiSource;
use thiserror::Error;
use zram::Zram;
use zsmalloc::{Background, BackgroundConfig};

use super::balloon_json::{BalloonChange, BalloonReport, BalloonTarget, PressureReport};

/// How often pressure is read. The kernel recomputes its averages every two seconds.
const PRESSURE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a call waits for frames of the balloon that compaction has isolated. It has them for
/// microseconds, as long as its thread runs.
const ISOLATION_TIMEOUT: Duration = Duration::from_secs(1);

/// How they are set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MaintenanceConfig {
    /// The balloon at the start.
    pub(crate) balloon: BalloonTarget,
    /// How it follows memory pressure when it does.
    pub(crate) pressure_settings: Settings,
    /// The share of one CPU that compaction in the background may use, in percent; `None` for none.
    pub(crate) background: Option<u8>,
}

/// They run as long as this lives.
#[derive(Debug)]
pub(crate) struct Maintenance {
    balloon: Arc<Balloon>,
    source: BalloonSource,
    /// Held while a target is set, so that it fits the target at all times; not while the target is reached.
    mode: Mutex<BalloonMode>,
    config: MaintenanceConfig,
    _background: Option<Background>,
    _kswapd: Kswapd,
}

/// How the balloon's target is set.
#[derive(Debug)]
enum BalloonMode {
    Off,
    Fixed,
    Auto(Auto),
}

/// Why the balloon stays as it is.
#[derive(Debug, Error)]
pub(crate) enum BalloonRefusal {
    /// More than the arena has.
    #[error(
        "a balloon of {asked} bytes is more than the arena can lend: {max} bytes are the most, what is stored in it included"
    )]
    ExceedsArena {
        /// Bytes.
        asked: u64,
        /// Bytes.
        max: u64,
    },
    /// There is nothing yet that it could take, and there never will be by itself.
    #[error(
        "a balloon of a fixed size takes room from a limit, and this disk has none: --mem-limit sets one; \"--balloon auto\" lends what is free"
    )]
    NoLimit,
    /// Pressure cannot be followed.
    #[error(transparent)]
    Auto(#[from] AutoError),
}

impl Maintenance {
    /// Starts them for a disk.
    pub(crate) fn start(disk: &Zram, config: MaintenanceConfig) -> Result<Self> {
        // Without a limit the store takes what it needs, whatever the balloon has: only memory that is there is worth lending.
        let source = if disk.config().mem_limit.is_some() {
            BalloonSource::FreeFrames
        } else {
            BalloonSource::CommittedFrames
        };
        // Before a thread is started that would have to be ended again.
        if source == BalloonSource::CommittedFrames
            && matches!(config.balloon, BalloonTarget::Bytes(1..))
        {
            return Err(BalloonRefusal::NoLimit).context("cannot set up the balloon");
        }
        let settings = BalloonConfig { source, ..BalloonConfig::default() };
        let balloon = Balloon::new(Arc::clone(disk.zone()), Arc::new(OsHost), settings)?;
        let background = config.background.map(|cpu_percent| {
            let settings = BackgroundConfig { cpu_percent, ..BackgroundConfig::default() };
            Background::start(disk.pool(), settings)
        });
        let background = background.transpose().context("cannot compact in the background")?;
        let kswapd = Kswapd::start(disk.zone()).context("cannot reclaim in the background")?;
        let mode = Mutex::new(BalloonMode::Off);
        let maintenance =
            Self { balloon, source, mode, config, _background: background, _kswapd: kswapd };
        maintenance.set_balloon(config.balloon).context("cannot set up the balloon")?;
        Ok(maintenance)
    }

    /// The share of a CPU compaction in the background may use; 0 without it.
    pub(super) fn background_percent(&self) -> u8 {
        self.config.background.unwrap_or(0)
    }

    /// Changes the balloon; returns when it is as asked for, or cannot be, or another caller asked
    /// for something else.
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
                let most = self.balloon.max_target().bytes();
                if asked > most && self.source == BalloonSource::FreeFrames {
                    return Err(BalloonRefusal::ExceedsArena { asked, max: most });
                }
                self.set_target(BalloonMode::Fixed, FrameCount::holding(asked))
            }
        };
        let freed = before.saturating_sub(self.held());
        Ok(BalloonChange { outcome, freed, balloon: self.balloon_report() })
    }

    fn follow_pressure(&self) -> Result<(), AutoError> {
        let mut mode = self.mode();
        if matches!(*mode, BalloonMode::Auto(_)) {
            return Ok(());
        }
        let source = PsiSource::this_process();
        *mode = BalloonMode::Auto(Auto::start(
            Arc::clone(&self.balloon),
            source,
            self.config.pressure_settings,
            PRESSURE_INTERVAL,
        )?);
        // It begins with what there is: a call on its way to an older target stops.
        self.balloon.keep_current_size();
        Ok(())
    }

    /// The target and its owner change in one step, so both are the same caller's, whatever others
    /// ask meanwhile.
    fn set_target(&self, mode: BalloonMode, target: FrameCount) -> String {
        let mut current = self.mode();
        if let BalloonMode::Auto(auto) = &*current {
            auto.stop();
        }
        let resize = self.balloon.start_resize(target);
        let before = std::mem::replace(&mut *current, mode);
        drop(current);
        // The thread ends after the step it is in, which our target cuts short.
        drop(before);
        outcome(resize.map_or_else(|refused| refused, |resize| run_while_isolated(&resize)))
    }

    /// Memory the arena holds. Units: bytes.
    fn held(&self) -> u64 {
        let stats = self.balloon.zone().stats();
        stats.committed.bytes().saturating_sub(stats.ballooned.bytes())
    }

    fn mode(&self) -> MutexGuard<'_, BalloonMode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The balloon, now.
    pub(super) fn balloon_report(&self) -> BalloonReport {
        let current = self.mode();
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

    /// The balloon's counters under their names in `/proc/vmstat`, in frames.
    pub(super) fn balloon_vmstat(&self) -> [(&'static str, u64); 3] {
        let stats = self.balloon.stats();
        [
            ("balloon_inflate", stats.inflated_total),
            ("balloon_deflate", stats.deflated_total),
            ("balloon_migrate", stats.migrated_total),
        ]
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

/// Reaches the target; tries again while compaction has isolated the frames that are left.
fn run_while_isolated(resize: &Resize<'_>) -> ResizeReport {
    let start = Instant::now();
    loop {
        let change = resize.run();
        if !matches!(change.stop, StopReason::Isolated { .. })
            || start.elapsed() > ISOLATION_TIMEOUT
        {
            return change;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn outcome(change: ResizeReport) -> String {
    match change.stop {
        StopReason::Reached if change.is_capped() => {
            "reached, at the most the arena can lend now".to_owned()
        }
        StopReason::Reached => "reached".to_owned(),
        StopReason::NoMemory(Shortage::Memory) => {
            "the arena holds no more memory that is free".to_owned()
        }
        StopReason::NoMemory(Shortage::Reserve) => "the arena keeps the rest in reserve".to_owned(),
        StopReason::NoMemory(Shortage::Zone(error)) => {
            format!("the arena has no more to give: {error}")
        }
        StopReason::Refused(refusal) => format!("the system did not take more: {refusal}"),
        StopReason::Superseded => {
            "another target was set meanwhile, or the store needed the memory".to_owned()
        }
        StopReason::Isolated { left } => format!("{left} are being moved; ask again to get them"),
        StopReason::Reentered => "the balloon is being changed from inside".to_owned(),
    }
}
