//! Tests of the control plane with curl and the subcommands that use it.

use serde_json::Value;

use crate::content::{self, MIB};
use crate::server::{Server, memzip};
use crate::tool::{self, need};

/// Numbers of the statistics: those of /sys/block/zram0 and others beside them.
const NUMBERS: [&str; 10] = [
    "orig_data_size",
    "compr_data_size",
    "mem_used_total",
    "mem_total",
    "mem_limit",
    "mem_used_max",
    "same_pages",
    "huge_pages",
    "pages_compacted",
    "rss",
];

/// Returns the server's statistics as `memzip stat --json` prints them.
pub(crate) fn stat(server: &Server) -> Value {
    let json = tool::succeed(memzip("stat").args(["--json", "--control"]).arg(server.control()));
    serde_json::from_str(&json).expect("memzip stat --json prints JSON")
}

/// Sends a request with curl; returns the answer and the HTTP status.
pub(crate) fn request(server: &Server, options: &[&str], path: &str) -> (String, String) {
    let mut curl = tool::command("curl");
    curl.args(["--silent", "--show-error", "--write-out", "\n%{http_code}", "--unix-socket"])
        .arg(server.control());
    let text = tool::succeed(curl.args(options).arg(format!("http://memzip{path}")));
    let (answer, status) = text.rsplit_once('\n').expect("curl adds the status");
    (answer.to_owned(), status.to_owned())
}

/// Sends a request that must succeed; returns the answer.
pub(crate) fn curl(server: &Server, options: &[&str], path: &str) -> String {
    let (answer, status) = request(server, options, path);
    assert_eq!(status, "200", "{answer}");
    answer
}

/// Fills the disk with real files and discards every second page.
fn fill_and_thin(server: &Server) {
    let image = content::save(server.folder(), "in.img", &content::programs(16 * MIB));
    tool::succeed(tool::command("nbdcopy").arg(&image).arg(server.uri()));
    let mut discard = String::new();
    (0..16 * MIB / 4096)
        .step_by(2)
        .for_each(|page| discard += &format!("h.trim(4096, {})\n", page * 4096));
    tool::succeed(tool::nbdsh().args(["-u", server.uri(), "-c", &discard]));
}

/// Returns a number of the statistics by its name.
pub(crate) fn number(stat: &Value, name: &str) -> u64 {
    stat[name].as_u64().unwrap_or_else(|| panic!("{name} is not a number in {stat:#}"))
}

#[test]
fn stat_has_every_field_and_consistent_sizes() {
    need!("nbdcopy", "nbdsh");
    let server = Server::start("16M", &["--algorithm", "lz4", "--compact-background", "off"]);
    fill_and_thin(&server);
    let stat = stat(&server);
    NUMBERS.iter().for_each(|name| _ = number(&stat, name));
    assert!(stat["classes"].as_array().is_some_and(|classes| !classes.is_empty()), "{stat:#}");
    assert!(stat["buddyinfo"].as_str().is_some_and(|text| text.starts_with("Node")), "{stat:#}");
    assert!(number(&stat, "compr_data_size") < number(&stat, "orig_data_size"), "{stat:#}");
    assert!(number(&stat, "compr_data_size") <= number(&stat, "mem_used_total"), "{stat:#}");
    assert!(number(&stat, "mem_used_total") <= number(&stat, "mem_total"), "{stat:#}");
}

#[test]
fn curl_and_the_subcommand_report_the_same() {
    need!("curl", "nbdcopy", "nbdsh");
    let server = Server::start("16M", &["--algorithm", "lz4", "--compact-background", "off"]);
    fill_and_thin(&server);
    let by_curl: Value = serde_json::from_str(&curl(&server, &[], "/v1/stat"))
        .expect("GET /v1/stat answers with JSON");
    let by_memzip = stat(&server);
    for name in NUMBERS.iter().filter(|name| **name != "rss") {
        assert_eq!(by_curl[name], by_memzip[name], "{name}");
    }
}

#[test]
fn compact_shrinks_a_thinned_disk_and_reports_it() {
    need!("nbdcopy", "nbdsh");
    let server = Server::start("16M", &["--algorithm", "lz4", "--compact-background", "off"]);
    fill_and_thin(&server);
    let before = stat(&server);
    let json = tool::succeed(memzip("compact").args(["--json", "--control"]).arg(server.control()));
    let report: Value = serde_json::from_str(&json).expect("memzip compact --json prints JSON");
    let after = stat(&server);
    assert!(number(&report, "objects_moved") > 0, "{report:#}");
    assert!(number(&report, "frames_freed") > 0, "{report:#}");
    assert!(
        number(&after, "mem_used_total") < number(&before, "mem_used_total"),
        "{before:#} {after:#}"
    );
    assert!(number(&after, "pages_compacted") > 0, "{after:#}");
    assert_eq!(after["compr_data_size"], before["compr_data_size"]);
}

#[test]
fn compaction_needs_the_method_post() {
    need!("curl");
    let server = Server::start("16M", &[]);
    let report: Value =
        serde_json::from_str(&curl(&server, &["-X", "POST"], "/v1/compact")).expect("JSON");
    assert_eq!(number(&report, "objects_moved"), 0, "an empty disk has nothing to move");
    assert_eq!(request(&server, &[], "/v1/compact").1, "405");
}

#[test]
fn metrics_are_in_the_prometheus_format() {
    need!("curl");
    let server = Server::start("16M", &[]);
    let metrics = curl(&server, &[], "/metrics");
    let samples = metrics.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for sample in samples {
        let (name, value) =
            sample.rsplit_once(' ').unwrap_or_else(|| panic!("{sample:?} is not a sample"));
        assert!(name.starts_with("memzip_"), "{sample:?}");
        assert!(value.parse::<f64>().is_ok(), "{sample:?}");
        count += 1;
    }
    assert!(count >= 10, "{metrics}");
    assert!(metrics.contains("# TYPE memzip_"), "{metrics}");
}

#[test]
fn the_table_shows_the_columns_of_zramctl() {
    let server = Server::start("16M", &[]);
    let table = tool::succeed(memzip("stat").arg("--control").arg(server.control()));
    for column in ["DATA", "COMPR", "TOTAL"] {
        assert!(table.contains(column), "{table}");
    }
}

#[test]
fn an_unknown_path_is_not_found() {
    need!("curl");
    let server = Server::start("16M", &[]);
    assert_eq!(request(&server, &[], "/v1/nothing").1, "404");
}

#[test]
fn stat_without_a_server_fails_with_the_path() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let absent = folder.path().join("absent.sock");
    let text = tool::fail(memzip("stat").arg("--control").arg(&absent));
    assert!(text.contains("absent.sock"), "{text}");
}

/// Runs `memzip compact` with these options and returns its report.
fn compact(server: &Server, options: &[&str]) -> Value {
    let json = tool::succeed(
        memzip("compact").args(["--json", "--control"]).arg(server.control()).args(options),
    );
    serde_json::from_str(&json).expect("memzip compact --json prints JSON")
}

#[test]
fn only_the_requested_kinds_are_compacted() {
    need!("nbdcopy", "nbdsh", "curl");
    let server = Server::start("16M", &["--algorithm", "lz4", "--compact-background", "off"]);
    fill_and_thin(&server);
    let nothing = compact(&server, &["--budget", "0"]);
    assert_eq!(
        (&nothing["objects"]["outcome"], &nothing["frames"]["outcome"]),
        (&"out of time".into(), &"out of time".into())
    );
    assert_eq!((number(&nothing, "objects_moved"), number(&nothing, "frames_moved")), (0, 0));

    let frames = compact(&server, &["--frames"]);
    assert!(frames["objects"].is_null() && frames["frames"]["outcome"] == "done", "{frames:#}");
    assert_eq!(number(&frames, "objects_moved"), 0);
    assert!(number(&frames, "frames_scanned") > 0, "{frames:#}");

    let objects = curl(&server, &["--data", "{\"frames\": false}"], "/v1/compact");
    let objects: Value = serde_json::from_str(&objects).expect("JSON");
    assert!(objects["frames"].is_null() && objects["objects"]["outcome"] == "done", "{objects:#}");
    assert!(number(&objects, "objects_moved") > 0, "{objects:#}");

    let both = compact(&server, &["--objects", "--frames", "--budget", "60000"]);
    assert_eq!((&both["outcome"], number(&both, "objects_moved")), (&"done".into(), 0), "{both:#}");
    let report = stat(&server);
    assert_eq!(
        report["vmstat"]["pgmigrate_success"].as_u64(),
        Some(number(&frames, "frames_moved") + number(&both, "frames_moved"))
    );
    assert_eq!(number(&report["compaction"], "objects_moved"), number(&objects, "objects_moved"));
    let text =
        tool::succeed(memzip("compact").arg("--frames").arg("--control").arg(server.control()));
    assert!(text.starts_with("frames: moved ") && !text.contains("objects"), "{text}");

    let contradiction = ["--data", "{\"objects\": false, \"frames\": false}"];
    let (text, status) = request(&server, &contradiction, "/v1/compact");
    assert!(status == "400" && text.contains("nothing to do"), "{text}");
}

/// Runs four compactions and one writer in parallel: each compaction finishes or is refused because
/// another one runs, and the content stays as written.
#[test]
fn parallel_compactions_keep_every_byte() {
    need!("nbdcopy", "nbdsh");
    let mut server = Server::start("16M", &["--algorithm", "lz4"]);
    fill_and_thin(&server);
    let image = server.folder().join("in.img");
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            (0..4).for_each(|_| {
                _ = tool::succeed(tool::command("nbdcopy").arg(&image).arg(server.uri()))
            });
        });
        let compactors: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let output =
                            tool::finish(memzip("compact").arg("--control").arg(server.control()));
                        let text = tool::text(&output);
                        assert!(output.status.success() || text.contains("409"), "{text}");
                        assert!(
                            !text.contains("ended early"),
                            "a compaction did not wait for a background slice: {text}"
                        );
                    }
                })
            })
            .collect();
        load.join().expect("the writer is served");
        compactors.into_iter().for_each(|thread| thread.join().expect("every compaction ends"));
    });
    let back = server.folder().join("back.img");
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    content::assert_same(&image, &back);
    server.assert_alive();
}

#[test]
fn a_thinned_disk_is_compacted_in_the_background() {
    need!("nbdcopy", "nbdsh");
    let server = Server::start("16M", &["--algorithm", "lz4", "--compact-background", "50"]);
    fill_and_thin(&server);
    let start = std::time::Instant::now();
    let freed = |report: &Value| number(&report["background"], "frames_freed");
    let mut report = stat(&server);
    while freed(&report) == 0 && start.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        report = stat(&server);
    }
    assert!(freed(&report) > 0, "{:#}", report["background"]);
    assert_eq!(number(&report["background"], "cpu_percent"), 50);
    assert!(number(&report, "pages_compacted") >= freed(&report), "{report:#}");
}

#[test]
fn a_hot_cache_keeps_small_writes_and_is_counted() {
    need!("nbdsh");
    let server = Server::start("16M", &["--algorithm", "lz4", "--hot-cache", "4M"]);
    let script = "for round in range(8):\n  for page in range(256):\n    h.pwrite(bytes([page, round]) * 256, page * 4096 + round * 512)\n\
                  for page in range(256):\n  for round in range(8):\n    assert h.pread(512, page * 4096 + round * 512) == bytes([page, round]) * 256";
    tool::succeed(tool::nbdsh().args(["-u", server.uri(), "-c", script]));
    let report = stat(&server);
    let hot = |name: &str| number(&report["hot_cache"], name);
    assert_eq!(hot("limit"), 4 << 20);
    assert!(
        hot("bytes") > 0 && hot("bytes") <= hot("limit") && hot("hits") > 0,
        "{:#}",
        report["hot_cache"]
    );
    assert_eq!(number(&report["memory"], "hot"), hot("bytes"));
    let parts: u64 =
        report["memory"].as_object().expect("parts").values().filter_map(Value::as_u64).sum();
    assert_eq!(parts, number(&report, "mem_total"), "{report:#}");
}
