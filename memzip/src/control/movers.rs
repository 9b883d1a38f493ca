//! What moves memory of a served disk by itself: compaction in the background, and the balloon.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use balloon::{Auto, AutoError, Balloon, BalloonConfig, Change, OsHost, Shortage, Stop};
use frames::{FRAME_SIZE, FrameCount};
use std::sync::{Mutex, MutexGuard, PoisonError};
use sys::host::PsiSource;
use thiserror::Error;
use zram::Zram;
use zsmalloc::{Background, BackgroundConfig};

use super::balloon_json::{BalloonChange, BalloonReport, BalloonTarget, PressureReport};

/// How often pressure is read. The kernel recomputes its averages every two seconds.
const PERIOD: Duration = Duration::from_secs(1);

/// How they are set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MoverConfig {
    /// The balloon at the start.
    pub(crate) balloon: BalloonTarget,
    /// The share of one CPU that compaction in the background may use, in percent; `None` for none.
    pub(crate) background: Option<u8>,
}

/// They run as long as this lives.
#[derive(Debug)]
pub(crate) struct Movers {
    balloon: Arc<Balloon>,
    mode: Mutex<Mode>,
    config: MoverConfig,
    _background: Option<Background>,
}

/// How the balloon's target is set.
#[derive(Debug)]
enum Mode {
    Off,
    Fixed,
    Auto(Auto, PsiSource),
}

/// Why the balloon stays as it is.
#[derive(Debug, Error)]
pub(crate) enum BalloonRefusal {
    /// More than the arena has.
    #[error(
        "a balloon of {asked} bytes is more than the arena can lend: {most} bytes are the most, what is stored in it included"
    )]
    AboveTheArena {
        /// Bytes.
        asked: u64,
        /// Bytes.
        most: u64,
    },
    /// Pressure cannot be followed.
    #[error(transparent)]
    Auto(#[from] AutoError),
}

impl Movers {
    /// Starts them for a disk.
    pub(crate) fn start(disk: &Zram, config: MoverConfig) -> Result<Self> {
        let balloon = Balloon::new(Arc::clone(disk.zone()), Arc::new(OsHost), BalloonConfig::default())?;
        let background = config.background.map(|cpu_percent| {
            let settings = BackgroundConfig { cpu_percent, ..BackgroundConfig::default() };
            Background::start(disk.pool(), settings)
        });
        let background = background.transpose().context("cannot compact in the background")?;
        let movers = Self { balloon, mode: Mutex::new(Mode::Off), config, _background: background };
        movers.set_balloon(config.balloon).context("cannot set up the balloon")?;
        Ok(movers)
    }

    /// The share of a CPU compaction in the background may use; 0 without it.
    pub(super) fn background_percent(&self) -> u8 {
        self.config.background.unwrap_or(0)
    }

    /// Changes the balloon; returns when it is as asked for, or cannot be, or somebody else asked for something else.
    pub(crate) fn set_balloon(&self, target: BalloonTarget) -> Result<BalloonChange, BalloonRefusal> {
        let outcome = match target {
            BalloonTarget::Auto => {
                self.follow_pressure()?;
                "following pressure".to_owned()
            }
            BalloonTarget::Off => self.reach(Mode::Off, FrameCount(0)),
            BalloonTarget::Bytes(asked) => {
                let most = self.balloon.most().bytes();
                if asked > most {
                    return Err(BalloonRefusal::AboveTheArena { asked, most });
                }
                self.reach(Mode::Fixed, FrameCount::holding(asked))
            }
        };
        Ok(BalloonChange { outcome, balloon: self.balloon_report() })
    }

    fn follow_pressure(&self) -> Result<(), AutoError> {
        let mut mode = self.mode();
        if matches!(*mode, Mode::Auto(..)) {
            return Ok(());
        }
        let source = pressure_source();
        let auto =
            Auto::start(Arc::clone(&self.balloon), source.clone(), balloon::policy::Settings::default(), PERIOD)?;
        *mode = Mode::Auto(auto, source);
        Ok(())
    }

    fn reach(&self, mode: Mode, target: FrameCount) -> String {
        let before = std::mem::replace(&mut *self.mode(), mode);
        // It ends after the step it is in, so it cannot set another target after us.
        drop(before);
        outcome(self.balloon.set_target(target))
    }

    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The balloon, now.
    pub(super) fn balloon_report(&self) -> BalloonReport {
        let stats = self.balloon.stats();
        let (mode, pressure) = match &*self.mode() {
            Mode::Off => ("off", None),
            Mode::Fixed => ("fixed", None),
            Mode::Auto(auto, source) => ("auto", Some(pressure(auto, source))),
        };
        let bytes = |frames: u64| FrameCount(frames).bytes();
        BalloonReport {
            mode: mode.to_owned(),
            target: stats.target.bytes(),
            actual: stats.actual.bytes(),
            most: self.balloon.most().bytes(),
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

/// The group this process is in, if the kernel keeps pressure for it, else the whole machine.
fn pressure_source() -> PsiSource {
    PsiSource::own_group().ok().filter(|source| source.read().is_ok()).unwrap_or_else(PsiSource::machine)
}

fn pressure(auto: &Auto, source: &PsiSource) -> PressureReport {
    let state = auto.state();
    PressureReport {
        source: source.path().display().to_string(),
        some_avg10: state.psi.map(|psi| psi.some.avg10.get()),
        some_avg60: state.psi.map(|psi| psi.some.avg60.get()),
        problem: state.problem.map(|problem| problem.to_string()),
        readings: state.readings,
        raised: state.raised,
        lowered: state.lowered,
    }
}

fn outcome(change: Change) -> String {
    match change.stop {
        Stop::Reached if change.is_capped() => "reached, at the most the arena can lend now".to_owned(),
        Stop::Reached => "reached".to_owned(),
        Stop::NoMemory(Shortage::Reserve) => "the arena keeps the rest in reserve".to_owned(),
        Stop::NoMemory(Shortage::Zone(error)) => format!("the arena has no more to give: {error}"),
        Stop::Refused(refusal) => format!("the system did not take more: {refusal}"),
        Stop::Superseded => "another target was set meanwhile, or the store needed the memory".to_owned(),
        Stop::Isolated { left } => format!("{left} are on the move and follow in a moment"),
        Stop::Reentered => "the balloon is being changed from inside".to_owned(),
    }
}
