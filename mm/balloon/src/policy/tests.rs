//! Tables of policy decisions. Units: frames; 512 are a pageblock, 2048 the step used here.

use sys::host::Stall;

use super::*;

const STEP: u64 = 2048;

fn settings() -> Settings {
    Settings { step: FrameCount(STEP), ..Settings::default() }
}

fn psi(avg10: u16, avg60: u16) -> Psi {
    let some = Stall {
        avg10: Share::hundredths(avg10),
        avg60: Share::hundredths(avg60),
        ..Stall::default()
    };
    Psi { some, ..Psi::default() }
}

/// Returns a zone of 100 000 frames of which others have `others`.
fn view(others: u64) -> ZoneView {
    ZoneView {
        usable: FrameCount(100_000),
        others: FrameCount(others),
        reclaimable: FrameCount(0),
        short_below: FrameCount(1000),
    }
}

const LONG_AGO: RecentChanges = RecentChanges { since_change: Duration::MAX, failed_raises: 0 };

fn ago(seconds: u64) -> RecentChanges {
    RecentChanges { since_change: Duration::from_secs(seconds), failed_raises: 0 }
}

#[test]
fn pressure_decides_the_direction() {
    use Decision::{Hold as Stay, Lower, Raise};
    // avg10 and avg60 in hundredths of a percent, the balloon's size, the expected decision
    let table = [
        ((0, 0), 0, Stay(HoldReason::Empty)),
        ((0, 0), 4096, Lower(FrameCount(2048))),
        ((99, 99), 4096, Lower(FrameCount(2048))),
        ((100, 0), 4096, Stay(HoldReason::Band)),
        ((0, 100), 4096, Stay(HoldReason::Band)),
        ((500, 500), 4096, Stay(HoldReason::Band)),
        ((500, 500), 0, Stay(HoldReason::Band)),
        ((1000, 0), 4096, Stay(HoldReason::Band)),
        ((1001, 0), 4096, Raise(FrameCount(6144))),
        ((1001, 10_000), 0, Raise(FrameCount(2048))),
        ((10_000, 10_000), 4096, Raise(FrameCount(6144))),
    ];
    for ((avg10, avg60), holds, expected) in table {
        let decision =
            decide(&psi(avg10, avg60), &view(10_000), FrameCount(holds), LONG_AGO, &settings());
        assert_eq!(decision, expected, "{avg10} {avg60} {holds}");
    }
}

#[test]
fn targets_are_whole_blocks_within_the_zone() {
    // frames of others, those they could free, the largest target, the balloon's size, the expected
    // decision under high pressure
    let table = [
        (0, 0, None, 100, Decision::Raise(FrameCount(2048))),
        (98_000, 0, None, 0, Decision::Raise(FrameCount(512))),
        (98_600, 0, None, 0, Decision::Hold(HoldReason::Full)),
        (98_600, 5000, None, 0, Decision::Raise(FrameCount(2048))),
        (0, 0, Some(3000), 2048, Decision::Raise(FrameCount(2560))),
        (0, 0, Some(3000), 2560, Decision::Hold(HoldReason::Full)),
        (0, 0, Some(0), 0, Decision::Hold(HoldReason::Full)),
        (200_000, 0, None, 1024, Decision::Hold(HoldReason::Full)),
        (0, u64::MAX, Some(u64::MAX), 50_000, Decision::Raise(FrameCount(51_712))),
    ];
    for (others, reclaimable, most, holds, expected) in table {
        let view = ZoneView { reclaimable: FrameCount(reclaimable), ..view(others) };
        let settings = Settings { max_target: most.map(FrameCount), ..settings() };
        let decision = decide(&psi(5000, 5000), &view, FrameCount(holds), LONG_AGO, &settings);
        assert_eq!(decision, expected, "{others} {reclaimable} {most:?} {holds}");
    }
}

#[test]
fn a_change_waits_for_the_effect_of_the_last() {
    let (high, calm) = (psi(5000, 5000), psi(0, 0));
    let next =
        |psi: &Psi, recent| decide(psi, &view(10_000), FrameCount(4096), recent, &settings());
    assert_eq!(next(&high, ago(1)), Decision::Hold(HoldReason::TooSoon));
    assert_eq!(next(&high, ago(2)), Decision::Raise(FrameCount(6144)));
    assert_eq!(
        next(&calm, ago(9)),
        Decision::Hold(HoldReason::TooSoon),
        "shrinking waits longer than growing"
    );
    assert_eq!(next(&calm, ago(10)), Decision::Lower(FrameCount(2048)));
    let failed_raises = |failed_raises, seconds| RecentChanges { failed_raises, ..ago(seconds) };
    assert_eq!(next(&high, failed_raises(3, 15)), Decision::Hold(HoldReason::TooSoon));
    assert_eq!(next(&high, failed_raises(3, 16)), Decision::Raise(FrameCount(6144)));
    assert_eq!(
        next(&high, failed_raises(u32::MAX, 64)),
        Decision::Raise(FrameCount(6144)),
        "the wait is bounded"
    );
}

#[test]
fn a_short_zone_shrinks_the_balloon_if_the_host_can() {
    // 100 000 frames less the balloon's 20 480 are fewer than what others have plus the reserve of
    // 1000.
    let next = |psi: &Psi| decide(psi, &view(79_000), FrameCount(20_480), LONG_AGO, &settings());
    assert_eq!(next(&psi(500, 500)), Decision::Lower(FrameCount(18_432)));
    assert_eq!(next(&psi(5000, 5000)), Decision::Hold(HoldReason::Full));
    let roomy = decide(&psi(500, 500), &view(70_000), FrameCount(20_480), LONG_AGO, &settings());
    assert_eq!(roomy, Decision::Hold(HoldReason::Band));
}

#[test]
fn a_step_is_never_less_than_a_block() {
    let settings = Settings { step: FrameCount(1), ..settings() };
    let next = |psi: &Psi, holds| decide(psi, &view(0), FrameCount(holds), LONG_AGO, &settings);
    assert_eq!(next(&psi(5000, 0), 0), Decision::Raise(FrameCount(512)));
    assert_eq!(next(&psi(0, 0), 512), Decision::Lower(FrameCount(0)));
    assert_eq!(
        next(&psi(0, 0), 700),
        Decision::Lower(FrameCount(0)),
        "a partial block is deflated, too"
    );
}

/// Readings that vary inside the band do not change the target.
#[test]
fn readings_inside_the_band_change_nothing() {
    let mut holds = FrameCount(8192);
    for (second, avg10) in (0..600_u64).zip([150, 900, 300, 1000, 120, 700].into_iter().cycle()) {
        match decide(&psi(avg10, 400), &view(10_000), holds, ago(second), &settings()) {
            Decision::Raise(next) | Decision::Lower(next) => holds = next,
            Decision::Hold(_) => {}
        }
    }
    assert_eq!(holds, FrameCount(8192));
}

#[test]
fn a_zone_without_limit_offers_committed_frames() {
    let stats = ZoneStats {
        capacity: FrameCount(1 << 30),
        limit: None,
        online: FrameCount(20_480),
        committed: FrameCount(10_240),
        in_use: FrameCount(9000),
        ballooned: FrameCount(1024),
        reserved: FrameCount(0),
        cached: FrameCount(40),
        free_committed: FrameCount(1200),
        released: FrameCount(10_240),
        blocks_released_total: 0,
        descriptor_bytes: 0,
        ..ZoneStats::default()
    };
    let marks = Watermarks::of(stats.capacity);
    let unlimited = ZoneView::of(
        &stats,
        &marks,
        FrameCount(1024),
        FrameCount(7),
        BalloonSource::CommittedFrames,
    );
    assert_eq!(
        (unlimited.usable.0, unlimited.others.0, unlimited.reclaimable.0),
        (10_240, 7976, 7)
    );
    let limited = ZoneStats { limit: Some(FrameCount(50_000)), ..stats };
    let limited = ZoneView::of(
        &limited,
        &Watermarks::of(FrameCount(50_000)),
        FrameCount(1024),
        FrameCount(0),
        BalloonSource::FreeFrames,
    );
    assert_eq!(limited.usable.0, 50_000);
    assert!(limited.short_below.0 > 0);
    let raced = ZoneView::of(
        &stats,
        &marks,
        FrameCount(9001),
        FrameCount(0),
        BalloonSource::CommittedFrames,
    );
    assert_eq!(raced.others.0, 0, "numbers read at different times may disagree");
}
