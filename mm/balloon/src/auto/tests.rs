//! Tests of the thread, with a pressure file that the test writes.

use std::path::PathBuf;

use frames::{Backing, Zone, ZoneConfig};
use sys::host::Share;

use super::*;
use crate::policy::HoldReason;
use crate::test_host::RecordingHost;
use crate::{BalloonConfig, StopReason};

/// A temporary file of the test, removed on drop.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("memzip-balloon-{}-{name}", std::process::id())))
    }

    /// Replaces the text atomically: the thread reads the old text or the new one.
    fn write(&self, text: &str) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, text).expect("a writable directory for temporary files");
        std::fs::rename(&next, &self.0).expect("the same directory");
    }

    fn pressure(&self, percent: u32) {
        let line = format!("avg10={percent}.00 avg60={percent}.00 avg300=0.00 total=1");
        self.write(&format!("some {line}\nfull {line}\n"));
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn balloon() -> (Arc<Balloon>, Arc<RecordingHost>) {
    let config = ZoneConfig {
        capacity: FrameCount(16_384),
        limit: Some(FrameCount(16_384)),
        backing: Backing::Heap,
        ..ZoneConfig::default()
    };
    let zone = Arc::new(Zone::new(config).expect("a small zone"));
    RecordingHost::of_balloon(&zone, BalloonConfig::default())
}

const QUICK: Settings = Settings {
    raise_above: Share::percent(10),
    lower_below: Share::percent(1),
    step: FrameCount(1024),
    raise_every: Duration::ZERO,
    lower_every: Duration::ZERO,
    reserve: FrameCount(0),
    max_target: Some(FrameCount(8192)),
};

fn start(balloon: &Arc<Balloon>, source: PsiSource) -> Auto {
    Auto::start(Arc::clone(balloon), source, QUICK, Duration::from_millis(1)).expect("a thread")
}

/// Waits until the state is `wanted`, at most a minute.
fn wait(auto: &Auto, wanted: impl Fn(&AutoState) -> bool) -> AutoState {
    let start = Instant::now();
    loop {
        let state = auto.state();
        if wanted(&state) {
            return state;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "still {state:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_balloon_follows_pressure_up_and_down() {
    let (balloon, host) = balloon();
    let file = File::new("follow");
    file.pressure(50);
    let auto = start(&balloon, PsiSource::file(&file.0));
    let state = wait(&auto, |state| state.decision == Some(Decision::Hold(HoldReason::Full)));
    assert_eq!((state.raised, state.lowered, balloon.stats().actual.0), (8, 0, 8192));
    assert_eq!(state.change.map(|change| change.stop), Some(StopReason::Reached));
    file.pressure(5);
    let state = wait(&auto, |state| state.decision == Some(Decision::Hold(HoldReason::Band)));
    assert_eq!((state.raised, state.lowered), (8, 0));
    file.pressure(0);
    let state = wait(&auto, |state| state.decision == Some(Decision::Hold(HoldReason::Empty)));
    assert_eq!((state.raised, state.lowered, balloon.stats().actual.0), (8, 8, 0));
    assert_eq!((state.failures, state.problem), (0, None));
    drop(auto);
    assert_eq!(host.has(), balloon.ranges());
    balloon.zone().check().expect("consistent");
}

#[test]
fn an_unreadable_file_keeps_the_target() {
    let (balloon, _) = balloon();
    assert_eq!(balloon.set_target(FrameCount(2048)).stop, StopReason::Reached);
    let file = File::new("missing");
    let auto = start(&balloon, PsiSource::file(&file.0));
    let state = wait(&auto, |state| state.failures >= 5);
    assert_eq!(state.problem, Some(PsiError::Missing { path: file.0.clone() }));
    assert_eq!((state.psi, state.decision, balloon.stats().actual.0), (None, None, 2048));
    // A readable file may contain something else.
    file.write("not pressure");
    wait(&auto, |state| matches!(state.problem, Some(PsiError::Malformed { .. })));
    assert_eq!(balloon.stats().actual.0, 2048, "an unknown pressure changes nothing");
    // Once the file appears, the thread follows it.
    file.pressure(50);
    wait(&auto, |state| state.problem.is_none() && state.raised > 0);
    assert!(balloon.stats().actual.0 > 2048);
}

#[test]
fn a_drop_ends_the_thread_and_keeps_the_balloon() {
    let (balloon, _) = balloon();
    let file = File::new("drop");
    file.pressure(50);
    let auto = Auto::start(
        Arc::clone(&balloon),
        PsiSource::file(&file.0),
        QUICK,
        Duration::from_secs(3600),
    );
    let auto = auto.expect("a thread");
    wait(&auto, |state| state.readings == 1);
    let before = Instant::now();
    drop(auto);
    assert!(
        before.elapsed() < Duration::from_secs(60),
        "the drop interrupts the period of an hour"
    );
    assert_eq!((Arc::strong_count(&balloon), balloon.stats().actual.0), (1, 1024));
}

/// A target set after the thread lost control stays, even if the thread was about to set one. A
/// named pipe keeps the thread in the middle of a reading.
#[test]
fn a_follower_without_control_sets_no_target() {
    let (balloon, _) = balloon();
    let pipe = File::new("pipe");
    assert!(
        std::process::Command::new("mkfifo").arg(&pipe.0).status().expect("coreutils").success()
    );
    let hour = Duration::from_secs(3600);
    let auto =
        Auto::start(Arc::clone(&balloon), PsiSource::file(&pipe.0), QUICK, hour).expect("a thread");
    // Opening for writing waits until the thread has opened the pipe, which then waits for text.
    let mut writer =
        std::fs::OpenOptions::new().write(true).open(&pipe.0).expect("a reader is there");
    auto.stop();
    assert_eq!(balloon.set_target(FrameCount(10)).stop, StopReason::Reached);
    let line = "avg10=50.00 avg60=50.00 avg300=0.00 total=1";
    std::io::Write::write_all(&mut writer, format!("some {line}\nfull {line}\n").as_bytes())
        .expect("it reads");
    drop(writer);
    let state = wait(&auto, |state| state.readings >= 1);
    assert!(
        matches!(state.decision, Some(Decision::Raise(_))),
        "the policy decided to raise: {state:?}"
    );
    assert_eq!((state.raised, state.change), (0, None), "it sets no target any more");
    assert_eq!((balloon.stats().target.0, balloon.stats().actual.0), (10, 10));
}

/// A server that ends does not wait for a large step: the thread cancels the rest of it.
#[test]
fn a_drop_mid_step_waits_for_one_message() {
    let (balloon, host) = balloon();
    let settings =
        Settings { step: FrameCount(8192 - 512), max_target: Some(FrameCount(8192 - 1)), ..QUICK };
    let (first, told) = mpsc::channel();
    let (resume, resumed) = mpsc::channel::<()>();
    let (first, resumed) = (Mutex::new(first), Mutex::new(resumed));
    host.hook(move |_| {
        lock(&first).send(()).expect("the test listens");
        let _ = lock(&resumed).recv();
    });
    let file = File::new("middle");
    file.pressure(50);
    // Each pageblock has a frame in use, so the balloon takes single frames, in many messages.
    let zone = balloon.zone();
    let mut pinned: Vec<_> = std::iter::from_fn(|| {
        zone.alloc_frame(frames::MigrateType::Movable, frames::Reclaim::NotAllowed).ok()
    })
    .collect();
    pinned.retain(|frame| frame.pfn().0 % 512 == 7);
    let auto = Auto::start(
        Arc::clone(&balloon),
        PsiSource::file(&file.0),
        settings,
        Duration::from_secs(3600),
    );
    let auto = auto.expect("a thread");
    told.recv().expect("it inflates");
    auto.stop();
    drop(resume);
    drop(auto);
    let stats = balloon.stats();
    assert_eq!(
        (stats.inflate_messages, stats.target, stats.actual.0),
        (1, stats.actual, 256),
        "the rest is cancelled"
    );
    host.unhook();
    assert_eq!(host.has(), balloon.ranges());
}

#[test]
fn crossed_marks_are_refused() {
    let (balloon, _) = balloon();
    let crossed =
        Settings { raise_above: Share::percent(1), lower_below: Share::percent(2), ..QUICK };
    let started = Auto::start(balloon, PsiSource::machine(), crossed, Duration::from_millis(1));
    let Err(AutoError::Marks { raise_above, lower_below }) = started else { panic!("{started:?}") };
    assert_eq!((raise_above, lower_below), (Share::percent(1), Share::percent(2)));
}

/// A host that refuses while pressure stays high is asked again, but after ever longer waits.
#[test]
fn a_refusing_host_is_asked_less_and_less_often() {
    let (balloon, host) = balloon();
    host.refuse.store(u32::MAX, std::sync::atomic::Ordering::SeqCst);
    let file = File::new("refuse");
    file.pressure(50);
    let settings = Settings { raise_every: Duration::from_millis(10), ..QUICK };
    let auto = Auto::start(
        Arc::clone(&balloon),
        PsiSource::file(&file.0),
        settings,
        Duration::from_millis(1),
    );
    let auto = auto.expect("a thread");
    let begin = Instant::now();
    let state = wait(&auto, |state| state.raised >= 4);
    // 20, 40 and 80 milliseconds after the first three attempts.
    assert!(begin.elapsed() >= Duration::from_millis(130), "{:?}", begin.elapsed());
    assert!(matches!(state.change.map(|change| change.stop), Some(StopReason::Refused(_))));
    assert_eq!((balloon.stats().actual.0, balloon.zone().stats().in_use.0), (0, 0));
}
