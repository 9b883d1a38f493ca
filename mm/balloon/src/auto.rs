//! A thread that resizes a balloon by memory pressure.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use frames::FrameCount;
use sys::host::{Psi, PsiError, PsiSource, Share};
use thiserror::Error;

use crate::balloon::Balloon;
use crate::inner::TargetGeneration;
use crate::policy::{self, Decision, RecentChanges, Settings, ZoneView};
use crate::report::ResizeReport;

/// A thread named `memzip-balloon` that reads memory pressure and sets a balloon's target. Dropping
/// this ends the thread and keeps the balloon's size.
#[derive(Debug)]
pub struct Auto {
    balloon: Arc<Balloon>,
    state: Arc<Mutex<AutoState>>,
    control: Arc<Mutex<ControlToken>>,
    /// Dropped first, which ends the thread.
    shutdown: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Whether the thread may set targets. Locked while it sets one, not while the balloon is resized.
#[derive(Clone, Copy, Debug)]
enum ControlToken {
    /// It may set targets; the generation of the last one.
    Held(Option<TargetGeneration>),
    Revoked,
}

/// The state of the thread: its last reading, decision and change, and its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoState {
    /// The last successful reading.
    pub psi: Option<Psi>,
    /// The error of the last reading, if it failed. The target does not change while this is set.
    pub problem: Option<PsiError>,
    /// The last decision.
    pub decision: Option<Decision>,
    /// The report of the last change.
    pub change: Option<ResizeReport>,
    /// Readings made, failed ones included.
    pub readings: u64,
    /// Readings that failed.
    pub failures: u64,
    /// Larger targets set.
    pub raised: u64,
    /// Smaller targets set.
    pub lowered: u64,
}

/// The error of [`Auto::start`].
#[derive(Debug, Error)]
pub enum AutoError {
    /// The mark for growing lies below the mark for shrinking, so the balloon would oscillate.
    #[error(
        "the balloon cannot grow above {raise_above} of pressure and shrink below {lower_below}: \
         the first must not be smaller"
    )]
    Marks {
        /// The mark above which it grows.
        raise_above: Share,
        /// The mark below which it shrinks.
        lower_below: Share,
    },
    /// The OS refused a thread.
    #[error("cannot start a thread for the balloon")]
    Thread(#[from] io::Error),
}

impl Auto {
    /// Starts the thread, which reads `source` once in every `period`.
    ///
    /// An unreadable source is no error: the state reports it, and the target stays meanwhile.
    ///
    /// # Errors
    /// [`AutoError`] when the marks are crossed or the OS refuses a thread.
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

    /// Returns the state of the thread.
    #[must_use]
    pub fn state(&self) -> AutoState {
        lock(&self.state).clone()
    }

    /// Stops the thread from setting targets and cancels a resize it has not finished, so that the
    /// next target set elsewhere stays. Does not wait; dropping this waits for the thread.
    pub fn stop(&self) {
        let token = std::mem::replace(&mut *lock(&self.control), ControlToken::Revoked);
        if let ControlToken::Held(Some(generation)) = token {
            let mut inner = self.balloon.inner.lock();
            if inner.delta(generation).is_continue() {
                inner.keep_current_size();
            }
        }
    }
}

impl Drop for Auto {
    fn drop(&mut self) {
        self.stop();
        self.shutdown.take();
        // The thread ends after its current step. A panic in it was printed already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's own data.
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
    /// Reads the pressure once, applies the decision and updates the state.
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

    /// Returns the policy's decision for a reading.
    fn decide(&self, psi: &Psi) -> Decision {
        let (balloon, zone) = (&self.balloon, self.balloon.zone());
        let actual = balloon.stats().actual;
        let (stats, marks) = (zone.stats(), zone.watermarks());
        let (reclaimable, source) = (balloon.reclaimable(), balloon.config.source);
        let view = ZoneView::of(&stats, &marks, actual, reclaimable, source);
        let since_change = self.changed.map_or(Duration::MAX, |changed| changed.elapsed());
        let recent = RecentChanges { since_change, failed_raises: self.failed_raises };
        policy::decide(psi, &view, actual, recent, &self.settings)
    }

    /// Applies a decision. Returns the report, or `None` if no target was set.
    fn apply(&mut self, decision: Decision) -> Option<ResizeReport> {
        let (actual, committed) = (self.balloon.stats().actual, self.committed());
        let (target, raises) = match decision {
            Decision::Hold(_) => return None,
            Decision::Raise(target) => (target, true),
            Decision::Lower(target) => (target, false),
        };
        if raises {
            // Shrinkers and free memory come first; the balloon then takes what they freed.
            self.balloon.reclaim(FrameCount(target.0.saturating_sub(actual.0)));
        }
        let change = self.set(target)?;
        // A raise succeeds if memory leaves the process: ballooned, or decommitted by the zone.
        let succeeded = !raises || change.actual > actual || self.committed() < committed;
        self.failed_raises = if succeeded { 0 } else { self.failed_raises.saturating_add(1) };
        self.changed = Some(Instant::now());
        Some(change)
    }

    /// Sets a target and works towards it. Returns `None` after [`Auto::stop`].
    fn set(&self, target: FrameCount) -> Option<ResizeReport> {
        let mut control = lock(&self.control);
        let ControlToken::Held(generation) = &mut *control else { return None };
        let resize = self.balloon.start_resize(target);
        *generation = resize.as_ref().ok().map(|resize| resize.generation);
        drop(control);
        Some(resize.map_or_else(|refused| refused, |resize| resize.run()))
    }

    /// Returns the committed frames of the zone, ballooned ones excluded.
    fn committed(&self) -> FrameCount {
        let stats = self.balloon.zone().stats();
        FrameCount(stats.committed.0.saturating_sub(stats.ballooned.0))
    }
}

#[cfg(test)]
mod tests;
