//! Tests of `POST /v1/balloon`.

use super::super::change_json::BalloonChange;
use super::super::change_json::BalloonTarget::{Auto, Bytes as Fixed, Off};
use super::*;

/// Sets the balloon; the answer must be a change.
fn set(fixture: &Fixture, body: &str) -> BalloonChange {
    fixture.posted("/v1/balloon", body)
}

#[test]
fn the_balloon_reaches_its_target_and_stat_shows_it() {
    const MIB: u64 = 1 << 20;
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    assert_eq!(fixture.state.stat().balloon.mode, "off");
    let change = set(&fixture, "{\"target\": 8388609}");
    // One byte more than whole frames: rounded up to a frame.
    assert_eq!((&*change.outcome, change.balloon.actual), ("reached", 8 * MIB + 4096));
    let stat = client::stat(&fixture.socket()).expect("it answers");
    assert_eq!((&*stat.balloon.mode, stat.balloon.actual), ("fixed", 8 * MIB + 4096));
    assert_eq!((stat.vmstat["balloon_inflate"], stat.vmstat["balloon_deflate"]), (2049, 0));
    assert_eq!(set(&fixture, "{\"target\": 0}").balloon.actual, 0);

    let change = set(&fixture, "{\"target\": \"auto\"}");
    assert_eq!((&*change.outcome, &*change.balloon.mode), ("following pressure", "auto"));
    let pressure = change.balloon.pressure.expect("the source it follows");
    assert!(
        pressure.source.ends_with("memory") || pressure.source.ends_with("memory.pressure"),
        "{pressure:?}"
    );
    let change = set(&fixture, "{\"target\": \"off\"}");
    assert_eq!(
        (&*change.balloon.mode, change.balloon.actual, change.balloon.pressure),
        ("off", 0, None)
    );
    fixture.disk.check().expect("consistent");
}

#[test]
fn a_refused_target_changes_nothing() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    set(&fixture, "{\"target\": 4194304}");
    let max = fixture.state.stat().balloon.most;
    for junk in [
        "",
        "{}",
        "{\"target\": -1}",
        "{\"target\": 0.5}",
        "{\"target\": \"1G\"}",
        "{\"target\": null}",
        "[0]",
        "7",
    ] {
        fixture.assert_refused("/v1/balloon", junk, &["target"]);
    }
    for above in [max + 1, u64::MAX] {
        let body = format!("{{\"target\": {above}}}");
        fixture.assert_refused("/v1/balloon", &body, &[&above.to_string(), &max.to_string()]);
    }
    fixture.assert_post_only("/v1/balloon");
    assert_eq!(fixture.state.stat().balloon.actual, 4 << 20);
}

#[test]
fn concurrent_targets_end_with_one_and_its_mode() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let maintenance = &fixture.state.maintenance;
    for round in 0..100 {
        std::thread::scope(|scope| {
            for target in [Fixed(24 << 20), Off, Auto, Fixed(3 << 20), Off, Fixed(16 << 20)] {
                scope
                    .spawn(move || maintenance.set_balloon(target).expect("every target is valid"));
            }
        });
        let balloon = maintenance.balloon_report();
        match &*balloon.mode {
            "off" => {
                assert_eq!((balloon.target, balloon.actual), (0, 0), "round {round}");
            }
            "fixed" => {
                // It may have stopped early: a batch for an older target held memory, or reclaim in
                // the background took some back.
                assert!(
                    balloon.actual <= balloon.target && balloon.target <= 24 << 20,
                    "round {round}: {balloon:?}"
                );
                // Without a competing request a small target is reached.
                let again = maintenance.set_balloon(Fixed(3 << 20)).expect("a valid target");
                assert_eq!(again.balloon.actual, 3 << 20, "round {round}: {again:?}");
            }
            _ => assert!(balloon.pressure.is_some(), "round {round}: {balloon:?}"),
        }
    }
    fixture.disk.check().expect("consistent");
}

/// Without a limit the store grows whatever the balloon holds, so inflating with memory that was
/// never used would mean nothing.
#[test]
fn without_a_limit_only_committed_memory_is_taken() {
    let parts = Fixture::parts(None);
    let routes = Routes::new(Arc::clone(&parts.1));
    let fixture = Fixture::of(parts, routes, CLIENT_LIMITS);
    let change = set(&fixture, "{\"target\": 8388608}");
    assert_eq!(
        (&*change.outcome, change.balloon.actual),
        ("reached, limited to what the arena can give now", 0)
    );
    fixture.fill_and_thin();
    let held = fixture.state.maintenance.balloon_report().held;
    let change = set(&fixture, "{\"target\": 1099511627776}");
    let balloon = &change.balloon;
    assert!(
        balloon.actual <= held && balloon.held + change.freed <= held,
        "{held} held before: {change:?}"
    );
    let stat = fixture.state.stat();
    assert_eq!(sum(&stat), stat.mem_total);
    fixture.disk.check().expect("consistent");

    let config = MaintenanceConfig { balloon: Fixed(1 << 20), ..MaintenanceConfig::default() };
    let refused = format!(
        "{:#}",
        Maintenance::start(&fixture.disk, config).expect_err("refused without a limit")
    );
    assert!(refused.contains("--mem-limit"), "{refused}");
}
