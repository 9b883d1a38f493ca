//! Tests of the control plane over its real socket, with a real disk behind it.

mod fixture;
mod balloon;
mod clients;
mod compact;
mod fields;
mod limit;
mod socket;

use super::stat_json::{StatReport, memory_parts};
use super::*;
use fixture::{Fixture, PAGES};

/// Returns the sum of the parts of the memory.
fn sum(stat: &StatReport) -> u64 {
    memory_parts(&stat.memory).iter().map(|(_, bytes, _)| bytes).sum()
}

#[test]
fn stat_over_the_socket_equals_stat_in_the_process() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let mut received = client::stat(&fixture.socket()).expect("it answers");
    let mut known = fixture.state.stat();
    assert!(received.rss.take().is_some_and(|rss| rss > 1 << 20) && known.rss.take().is_some());
    let json = |stat| serde_json::to_value(stat).expect("JSON");
    assert_eq!(json(&received), json(&known));
    assert_eq!(sum(&received), received.mem_total);
    assert_eq!(received.mm.orig_data_size, PAGES / 2 * 4096);
    assert!(!received.classes.is_empty() && received.buddyinfo.starts_with("Node"));
    let in_classes: u64 = received.classes.iter().map(|class| class.pages_used * 4096).sum();
    assert_eq!(in_classes, received.mm.mem_used_total);
}

#[test]
fn the_answer_says_what_is_wrong_with_a_request() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    let (status, head, body) = fixture.get("/v2/stat");
    assert_eq!(status, 404, "{head}");
    assert!(body.contains("/v2/stat") && body.contains("/v1/stat"), "{body}");
    let (status, head, body) = fixture.raw("DELETE /v1/stat HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(status, 405, "{body}");
    assert!(head.contains("allow: get, head"), "{head}");
    fixture.assert_post_only("/v1/compact");
    for junk in
        ["{", "[]", "{\"budget_ms\": -1}", "{\"budget_ms\": \"long\"}", "{\"budget\": 1}", "\u{7f}"]
    {
        fixture.assert_refused("/v1/compact", junk, &["budget_ms"]);
    }
    for junk in [
        "{\"objects\": 1}",
        "{\"frames\": \"yes\"}",
        "{\"frame\": true}",
        "{\"budget_ms\": 1e3}",
        "[true]",
    ] {
        fixture.assert_refused("/v1/compact", junk, &[]);
    }
    let nothing = "{\"objects\": false, \"frames\": false}";
    fixture.assert_refused("/v1/compact", nothing, &["nothing to do"]);
    assert_eq!(fixture.post("/v1/compact", &" ".repeat(5000)).0, 413);
}

#[test]
fn metrics_are_in_the_prometheus_format() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let (status, head, body) = fixture.get("/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains(&format!("\nmemzip_orig_bytes {}\n", PAGES / 2 * 4096)), "{body}");
    assert!(body.contains("\nmemzip_nbd_buffer_bytes 0\n"), "{body}");
}
