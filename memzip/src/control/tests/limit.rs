//! Tests of `POST /v1/mem_limit` and `POST /v1/mem_used_max`.

use block::BlockDevice;
use fastrand::Rng;
use serde_json::Value;

use super::super::change_json::CompactRequest;
use super::*;

const MIB: u64 = 1 << 20;

fn set_limit(fixture: &Fixture, bytes: u64) -> Value {
    fixture.posted("/v1/mem_limit", &format!("{{\"mem_limit\": {bytes}}}"))
}

/// Writes a page that does not compress.
fn write(fixture: &Fixture, page: u64) -> Result<(), block::BlockError> {
    let mut content = [0; 4096];
    Rng::with_seed(page).fill(&mut content);
    fixture.disk.write(fixture.span(page), &content)
}

#[test]
fn a_limit_below_what_is_held_refuses_writes_only() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    (0..512).for_each(|page| write(&fixture, page).expect("room"));
    let needed = fixture.state.stat();
    let needed = needed.mem_total - needed.memory.free_frames;
    // Rounded up to a frame, and no page is lost.
    let answer = set_limit(&fixture, needed - MIB + 1);
    let limit = (needed - MIB + 1).next_multiple_of(4096);
    assert_eq!(answer["mem_limit"], limit);
    assert!(answer["mem_total"].as_u64().is_some_and(|held| held > limit), "{answer}");
    assert_eq!(client::stat(&fixture.socket()).expect("it answers").mm.mem_limit, limit);
    assert!(matches!(write(&fixture, 600), Err(block::BlockError::NoSpace { .. })));
    (0..512).for_each(|page| fixture.disk.verify(fixture.span(page)).expect("still there"));
    // Freed pages let some writes through again, and no limit all of them.
    (0..300).for_each(|page| fixture.disk.discard(fixture.span(page)).expect("a writable disk"));
    write(&fixture, 0).expect("pages were freed");
    assert!((1..300).any(|page| write(&fixture, page).is_err()));
    assert_eq!(set_limit(&fixture, 0)["mem_limit"], 0);
    (0..700).for_each(|page| write(&fixture, page).expect("no limit"));
    fixture.disk.check().expect("consistent");
}

#[test]
fn the_arena_bounds_the_limit() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    let start = fixture.state.stat().mm.mem_limit;
    let max = fixture.disk.zone().capacity().bytes().max(start);
    for above in [max + 1, u64::MAX] {
        let body = format!("{{\"mem_limit\": {above}}}");
        fixture.assert_refused("/v1/mem_limit", &body, &[&above.to_string(), &max.to_string()]);
    }
    assert_eq!(fixture.state.stat().mm.mem_limit, start);
    assert_eq!(set_limit(&fixture, max)["mem_limit"], max);
    // No limit is too small: only writes notice.
    assert_eq!(set_limit(&fixture, 1)["mem_limit"], 4096);
    assert!(write(&fixture, 0).is_err());
}

#[test]
fn a_reset_peak_starts_from_what_is_used() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    client::compact(&fixture.socket(), CompactRequest::default()).expect("it answers");
    let before = fixture.state.stat();
    assert!(before.mm.mem_used_max > before.mm.mem_used_total, "{before:?}");
    let answer: Value = fixture.posted("/v1/mem_used_max", "{\"mem_used_max\": 0}");
    assert_eq!(answer["mem_used_max"], before.mm.mem_used_total);
    assert_eq!(fixture.state.stat().mm.mem_used_max, before.mm.mem_used_total);
    write(&fixture, 1).expect("room");
    assert!(fixture.state.stat().mm.mem_used_max > before.mm.mem_used_total);
}

#[test]
fn a_refused_body_changes_nothing() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let before = fixture.state.stat();
    for (path, name) in [("/v1/mem_limit", "mem_limit"), ("/v1/mem_used_max", "mem_used_max")] {
        for junk in ["-1", "0.5", "1e3", "\"1G\"", "null", "[0]", "18446744073709551616"] {
            let body = format!("{{\"{name}\": {junk}}}");
            fixture.assert_refused(path, &body, &["the body must be", name]);
        }
        for junk in
            ["", "{}", "[0]", "7", "{\"limit\": 0}", &format!("{{\"{name}\": 0, \"now\": true}}")]
        {
            fixture.assert_refused(path, junk, &[name]);
        }
        fixture.assert_post_only(path);
    }
    let body = "{\"mem_used_max\": 4096}";
    fixture.assert_refused("/v1/mem_used_max", body, &["set it to 0", "4096"]);
    let after = fixture.state.stat();
    assert_eq!(
        (after.mm.mem_limit, after.mm.mem_used_max),
        (before.mm.mem_limit, before.mm.mem_used_max)
    );
}
