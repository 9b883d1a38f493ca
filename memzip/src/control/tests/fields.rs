//! The complete set of names that scripts and dashboards rely on, in order.

use block::BlockDevice;

use super::super::change_json::BalloonTarget;
use super::*;

/// Starts a server whose statistics have every optional part.
fn full() -> Fixture {
    let fixture = Fixture::start(CLIENT_LIMITS);
    let page: Vec<u8> = (0..4096_u32).map(|at| (at * at / 977) as u8).collect();
    fixture.disk.write(fixture.span(0), &page).expect("room");
    fixture.state.maintenance.set_balloon(BalloonTarget::Auto).expect("pressure is followed");
    fixture
}

fn get(fixture: &Fixture, path: &str) -> String {
    let (status, _, body) = fixture.get(path);
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn stat_has_exactly_the_listed_fields() {
    let fixture = full();
    let body = get(&fixture, "/v1/stat");
    let report: StatReport = serde_json::from_str(&body).expect("JSON");
    // `memzip stat --json` prints the report again: the same fields in the same order.
    assert_eq!(serde_json::to_string(&report).expect("JSON"), body.trim_end());
    let pretty = serde_json::to_string_pretty(&report).expect("JSON");
    let names: String = pretty
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| format!("{name}\n"))
        .collect();
    assert_eq!(names, include_str!("fields/stat.txt"), "{names}");
}

#[test]
fn metrics_have_exactly_the_listed_names() {
    let body = get(&full(), "/metrics");
    let names: String = body
        .lines()
        .map(|line| match line.rsplit_once(' ') {
            Some((name, _)) if !line.starts_with('#') => format!("{name}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(names, include_str!("fields/metrics.txt"), "{names}");
}
