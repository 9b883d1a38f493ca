//! Tests of `POST /v1/compact`, and of compaction in the background.

use std::time::Instant;

use super::super::change_json::{CompactReport, CompactRequest};
use super::fixture::LIMIT;
use super::*;

#[test]
fn compact_frees_frames_and_reports_how_many() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let report = client::compact(&fixture.socket(), CompactRequest::default()).expect("it answers");
    assert!(
        report.object_work.objects_moved > 0 && report.object_work.frames_freed > 0,
        "{report:?}"
    );
    assert_eq!(
        report.mem_used_before - report.mem_used_after,
        report.object_work.frames_freed * 4096
    );
    assert_eq!(report.outcome, "done");
    assert!(report.mem_total_after <= report.mem_total_before, "{report:?}");
    assert_eq!(fixture.state.stat().mm.pages_compacted, report.object_work.frames_freed);
}

#[test]
fn compaction_stays_within_its_budget() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let report: CompactReport = fixture.posted("/v1/compact", "{\"budget_ms\": 0}");
    assert_eq!((report.object_work.objects_moved, report.outcome.as_str()), (0, "out of time"));
    let report: CompactReport = fixture.posted("/v1/compact", "");
    assert_eq!(report.outcome, "done");
}

/// Sends three requests to three disks in the same state.
#[test]
fn only_the_requested_kinds_are_compacted() {
    let ask = |body: &str| {
        let fixture = Fixture::start(CLIENT_LIMITS);
        fixture.fill_and_thin();
        let report: CompactReport = fixture.posted("/v1/compact", body);
        (report, fixture.state.stat())
    };
    let (objects, stat) = ask("{\"frames\": false}");
    assert!(
        objects.object_work.objects_moved > 0 && objects.frame_work.frames_moved == 0,
        "{objects:?}"
    );
    assert!(objects.objects.is_some_and(|part| part.outcome == "done") && objects.frames.is_none());
    assert_eq!((stat.compaction.runs, stat.vmstat["compact_migrate_scanned"]), (1, 0));

    let (frames, stat) = ask("{\"objects\": false}");
    assert!(frames.object_work.objects_moved == 0 && frames.frame_work.scanned > 0, "{frames:?}");
    assert!(frames.objects.is_none() && frames.frames.is_some_and(|part| part.outcome == "done"));
    assert_eq!(stat.compaction.runs, 0);
    assert_eq!(stat.vmstat["compact_migrate_scanned"], frames.frame_work.scanned);
    assert_eq!(stat.vmstat["pgmigrate_success"], frames.frame_work.frames_moved);

    let (both, stat) = ask("{\"objects\": true, \"frames\": true, \"budget_ms\": 200000}");
    assert!(both.object_work.objects_moved > 0 && both.frame_work.scanned > 0, "{both:?}");
    assert_eq!(stat.compaction.objects_moved, both.object_work.objects_moved);
    assert_eq!((stat.vmstat["nr_isolated"], &*stat.movability), (0, "on"));
    assert!(stat.pagetypeinfo.starts_with("Page block order: 9\n"), "{}", stat.pagetypeinfo);
}

#[test]
fn a_second_compaction_is_refused() {
    let parts = Fixture::parts(Some(LIMIT));
    let routes = Routes::new(Arc::clone(&parts.1));
    let running = routes.hold_compaction();
    let fixture = Fixture::of(parts, routes, CLIENT_LIMITS);
    let (status, body) = fixture.post("/v1/compact", "");
    assert_eq!(status, 409, "{body}");
    let error = client::compact(&fixture.socket(), CompactRequest::default())
        .expect_err("refused")
        .to_string();
    assert!(error.contains("409") && error.contains("running"), "{error}");
    client::stat(&fixture.socket()).expect("stat works during a compaction");
    drop(running);
    client::compact(&fixture.socket(), CompactRequest::default())
        .expect("the permit is free again");
}

#[test]
fn background_compaction_reports_its_state() {
    let (disk, _, folder) = Fixture::parts(Some(LIMIT));
    let half = MaintenanceConfig { background: Some(50), ..MaintenanceConfig::default() };
    let state = Fixture::state(&disk, folder.path().join("nbd2"), half);
    let routes = Routes::new(Arc::clone(&state));
    let fixture = Fixture::of((disk, state, folder), routes, CLIENT_LIMITS);
    fixture.fill_and_thin();
    let start = Instant::now();
    while fixture.state.stat().background.stats.polls < 3
        && start.elapsed() < Duration::from_secs(60)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let background = fixture.state.stat().background;
    assert!(background.stats.polls >= 3 && background.cpu_percent == 50, "{background:?}");
    assert_ne!(background.state, "off");
}
