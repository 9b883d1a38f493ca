//! A balloon that follows memory pressure by itself.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use frames::FrameCount;
use sys::host::{Psi, PsiError, PsiSource, Share};
use thiserror::Error;

use crate::balloon::{Balloon, Resize};
use crate::inner::TargetGeneration;
use crate::outcome::ResizeReport;
use crate::policy::{self, Decision, RecentChanges, Settings, ZoneView};

/// A thread named `memzip-balloon` that reads pressure and sets a balloon's target. Dropping this ends it; the balloon stays as large as it is.
#[derive(Debug)]
pub struct Auto {
    balloon: Arc<Balloon>,
    state: Arc<Mutex<AutoState>>,
    control: Arc<Mutex<ControlToken>>,
    /// Dropped first: the thread sees it and ends.
    shutdown: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Whether the thread may still set targets. Its lock is held while it sets one, and for no longer.
#[derive(Clone, Copy, Debug)]
enum ControlToken {
    /// It may; the one it set last.
    Held(Option<TargetGeneration>),
    Revoked,
}

/// What the thread has seen and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoState {
    /// The last reading.
    pub psi: Option<Psi>,
    /// Why there is no newer one: as long as this is set, the balloon is left as it is.
    pub problem: Option<PsiError>,
    /// What was decided last.
    pub decision: Option<Decision>,
    /// What came of the last change.
    pub change: Option<ResizeReport>,
    /// Readings made.
    pub readings: u64,
    /// Readings that failed.
    pub failures: u64,
    /// Larger targets set.
    pub raised: u64,
    /// Smaller targets set.
    pub lowered: u64,
}

/// Why pressure is not followed.
#[derive(Debug, Error)]
pub enum AutoError {
    /// The mark to grow above lies below the mark to shrink below: the balloon would swing for ever.
    #[error(
        "the balloon would grow above {raise_above} of pressure and shrink below {lower_below}: that is the wrong way round"
    )]
    Marks {
        /// It grows above this.
        raise_above: Share,
        /// It shrinks below this.
        lower_below: Share,
    },
    /// The OS has no thread for us.
    #[error("cannot start a thread for the balloon")]
    Thread(#[from] io::Error),
}

impl Auto {
    /// Starts to follow `source`, which is read once in every `period`.
    ///
    /// A source that cannot be read is no error: the state says so, the balloon is left alone, and the next period tries again.
    ///
    /// # Errors
    /// [`AutoError`].
    pub fn start(
        balloon: Arc<Balloon>,
        source: PsiSource,
        settings: Settings,
        period: Duration,
    ) -> Result<Self, AutoError> {
        let Settings { raise_above, lower_below, .. } = settings;
        if raise_above < lower_below {
            return Err(AutoError::Marks { raise_above, lower_below });
        }
        let state = Arc::new(Mutex::new(AutoState::default()));
        let control = Arc::new(Mutex::new(ControlToken::Held(None)));
        let (shutdown, stopped) = mpsc::channel();
        let mut follower = Follower {
            balloon: Arc::clone(&balloon),
            source,
            settings,
            state: Arc::clone(&state),
            control: Arc::clone(&control),
            changed: None,
            failed_raises: 0,
        };
        let thread = thread::Builder::new().name("memzip-balloon".to_owned()).spawn(move || {
            loop {
                follower.tick();
                if stopped.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { balloon, state, control, shutdown: Some(shutdown), thread: Some(thread) })
    }

    /// What it has seen and done so far.
    #[must_use]
    pub fn state(&self) -> AutoState {
        lock(&self.state).clone()
    }

    /// From here on it sets no target any more, and gives up one that is not reached: the next one, whoever sets it, stays. It waits for nothing;
    /// dropping this waits for the thread.
    pub fn stop(&self) {
        let token = std::mem::replace(&mut *lock(&self.control), ControlToken::Revoked);
        if let ControlToken::Held(Some(generation)) = token {
            self.balloon.cancel_resize(generation);
        }
    }
}

impl Drop for Auto {
    fn drop(&mut self) {
        self.stop();
        self.shutdown.take();
        // It ends after the step it is in. A panic there was printed already, and says nothing about us.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread has.
struct Follower {
    balloon: Arc<Balloon>,
    source: PsiSource,
    settings: Settings,
    state: Arc<Mutex<AutoState>>,
    control: Arc<Mutex<ControlToken>>,
    changed: Option<Instant>,
    failed_raises: u32,
}

impl Follower {
    fn tick(&mut self) {
        let reading = self.source.read();
        let decision = reading.as_ref().ok().map(|psi| self.decide(psi));
        let change = decision.and_then(|decision| self.apply(decision));
        let mut state = lock(&self.state);
        state.readings += 1;
        match reading {
            Ok(psi) => (state.psi, state.problem) = (Some(psi), None),
            Err(error) => {
                state.failures += 1;
                state.problem = Some(error);
            }
        }
        state.decision = decision.or(state.decision);
        if let (Some(decision), Some(_)) = (decision, change) {
            state.raised += u64::from(matches!(decision, Decision::Raise(_)));
            state.lowered += u64::from(matches!(decision, Decision::Lower(_)));
        }
        state.change = change.or(state.change);
    }

    fn decide(&self, psi: &Psi) -> Decision {
        let (balloon, zone) = (&self.balloon, self.balloon.zone());
        let actual = balloon.stats().actual;
        let view = ZoneView::of(
            &zone.stats(),
            &zone.watermarks(),
            actual,
            balloon.reclaimable(),
            balloon.config.source,
        );
        let since_change = self.changed.map_or(Duration::MAX, |changed| changed.elapsed());
        policy::decide(
            psi,
            &view,
            actual,
            RecentChanges { since_change, failed_raises: self.failed_raises },
            &self.settings,
        )
    }

    fn apply(&mut self, decision: Decision) -> Option<ResizeReport> {
        let before = (self.balloon.stats().actual, self.holds());
        let change = match decision {
            Decision::Hold(_) => return None,
            Decision::Raise(target) => {
                // First the caches, and what is free anyway; then the balloon takes what came of it.
                self.balloon.reclaim(FrameCount(target.0.saturating_sub(before.0.0)));
                self.set(target)?
            }
            Decision::Lower(target) => self.set(target)?,
        };
        // Memory that left the process is what the host wants, whether the balloon has its frames or nobody.
        let brought = change.actual > before.0
            || self.holds() < before.1
            || matches!(decision, Decision::Lower(_));
        self.failed_raises = if brought { 0 } else { self.failed_raises.saturating_add(1) };
        self.changed = Some(Instant::now());
        Some(change)
    }

    /// `None` when somebody else has control by now.
    fn set(&self, target: FrameCount) -> Option<ResizeReport> {
        let mut control = lock(&self.control);
        let ControlToken::Held(generation) = &mut *control else { return None };
        let resize = self.balloon.start_resize(target);
        *generation = resize.as_ref().ok().map(Resize::generation);
        drop(control);
        Some(resize.map_or_else(|refused| refused, |resize| resize.run()))
    }

    /// Frames whose memory the zone holds.
    fn holds(&self) -> FrameCount {
        let stats = self.balloon.zone().stats();
        FrameCount(stats.committed.0.saturating_sub(stats.ballooned.0))
    }
}

#[cfg(test)]
#[path = "auto_tests.rs"]
mod tests;
