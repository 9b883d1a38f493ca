//! The balloon by request: its size, its name, what it says.

use super::super::balloon_json::BalloonTarget::{Auto, Bytes as Fixed, Off};
use super::*;

#[test]
fn the_balloon_is_as_large_as_asked_for_and_stat_shows_it() {
    const MIB: u64 = 1 << 20;
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    assert_eq!(fixture.state.stat().movement.balloon.mode, "off");
    let change = fixture.balloon("{\"target\": 8388609}");
    // Half a frame more than whole frames: rounded up.
    assert_eq!((&*change.outcome, change.balloon.actual), ("reached", 8 * MIB + 4096));
    let movement = client::stat(&fixture.socket()).expect("it answers").movement;
    assert_eq!((&*movement.balloon.mode, movement.balloon.actual), ("fixed", 8 * MIB + 4096));
    assert_eq!((movement.vmstat["balloon_inflate"], movement.vmstat["balloon_deflate"]), (2049, 0));
    assert_eq!(fixture.balloon("{\"target\": 0}").balloon.actual, 0);

    let change = fixture.balloon("{\"target\": \"auto\"}");
    assert_eq!((&*change.outcome, &*change.balloon.mode), ("following pressure", "auto"));
    let pressure = change.balloon.pressure.expect("it says what it follows");
    assert!(
        pressure.source.ends_with("memory") || pressure.source.ends_with("memory.pressure"),
        "{pressure:?}"
    );
    let change = fixture.balloon("{\"target\": \"off\"}");
    assert_eq!(
        (&*change.balloon.mode, change.balloon.actual, change.balloon.pressure),
        ("off", 0, None)
    );
    fixture.disk.check().expect("nothing is lost");
}

#[test]
fn a_balloon_that_cannot_be_is_refused_and_nothing_changes() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.balloon("{\"target\": 4194304}");
    let most = fixture.state.stat().movement.balloon.most;
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
        let (status, body) = fixture.post_to("/v1/balloon", junk);
        assert_eq!(status, 400, "{junk}: {body}");
        assert!(body.contains("target"), "{junk}: {body}");
    }
    for above in [most + 1, u64::MAX] {
        let (status, body) = fixture.post_to("/v1/balloon", &format!("{{\"target\": {above}}}"));
        assert_eq!(status, 400, "{body}");
        assert!(body.contains(&above.to_string()) && body.contains(&most.to_string()), "{body}");
    }
    let (status, head, _) = fixture.raw("GET /v1/balloon HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(status == 405 && head.contains("allow: post"), "{head}");
    assert_eq!(fixture.state.stat().movement.balloon.actual, 4 << 20);
}

#[test]
fn targets_set_at_the_same_time_end_with_one_of_them_and_its_name() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let maintenance = fixture.state.maintenance();
    for round in 0..100 {
        std::thread::scope(|scope| {
            for target in [Fixed(24 << 20), Off, Auto, Fixed(3 << 20), Off, Fixed(16 << 20)] {
                scope.spawn(move || {
                    maintenance.set_balloon(target).expect("none of them is refused")
                });
            }
        });
        let balloon = maintenance.balloon_report();
        match &*balloon.mode {
            "off" => {
                assert_eq!((balloon.target, balloon.actual), (0, 0), "round {round}");
            }
            "fixed" => {
                // It may have stopped short of memory that a batch for an older target held, or given some back to reclaim in the background.
                assert!(
                    balloon.actual <= balloon.target && balloon.target <= 24 << 20,
                    "round {round}: {balloon:?}"
                );
                // Alone one of a size that leaves enough is had whole.
                let again = maintenance.set_balloon(Fixed(3 << 20)).expect("it is not refused");
                assert_eq!(again.balloon.actual, 3 << 20, "round {round}: {again:?}");
            }
            _ => assert!(balloon.pressure.is_some(), "round {round}: {balloon:?}"),
        }
    }
    fixture.disk.check().expect("nothing is lost");
}

/// Without a limit the store takes what it needs, whatever the balloon has: a balloon of what was never used would be a number and nothing else.
#[test]
fn a_disk_without_a_limit_lends_only_memory_that_is_there() {
    let (disk, state, folder) = Fixture::parts_with_limit(None);
    let plane =
        ControlPlane::start(folder.path().join("control"), Arc::clone(&state)).expect("it starts");
    let fixture = Fixture { disk, state, _plane: plane, folder };
    let change = fixture.balloon("{\"target\": 8388608}");
    assert_eq!(
        (&*change.outcome, change.balloon.actual),
        ("reached, at the most the arena can lend now", 0)
    );
    fixture.fill_and_thin();
    let held = fixture.state.maintenance().balloon_report().held;
    let change = fixture.balloon("{\"target\": 1099511627776}");
    let balloon = &change.balloon;
    assert!(
        balloon.actual <= held && balloon.held + change.freed <= held,
        "{held} held before: {change:?}"
    );
    assert_eq!(fixture.state.stat().memory.sum(), fixture.state.stat().mem_total);
    fixture.disk.check().expect("nothing is lost");

    let config = MaintenanceConfig { balloon: Fixed(1 << 20), ..MaintenanceConfig::default() };
    let refused = format!(
        "{:#}",
        Maintenance::start(&fixture.disk, config).expect_err("there is nothing to take it from")
    );
    assert!(refused.contains("--mem-limit"), "{refused}");
}
