//! The balloon of a server in use: its memory leaves the process, and no content is lost.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::content::{self, MIB};
use crate::control::{number, request, stat};
use crate::server::{Server, memzip};
use crate::tool::{self, need};

/// Sets the balloon; returns the answer and the HTTP status.
fn set(server: &Server, target: &str) -> (Value, String) {
    let body = format!("{{\"target\": {target}}}");
    let (answer, status) = request(server, &["--data", &body], "/v1/balloon");
    (serde_json::from_str(&answer).expect("the answer is JSON"), status)
}

/// Starts a disk with a limit of 64 MiB, writes 48 MiB of noise and discards every second page.
/// Returns the server and a file with the expected content.
fn half_empty(folder_name: &str) -> (Server, std::path::PathBuf) {
    let server = Server::start(
        "96M",
        &["--mem-limit", "64M", "--algorithm", "lz4", "--compact-background", "off"],
    );
    let mut content = content::noise(48 * MIB);
    let image = content::save(server.folder(), "in.img", &content);
    tool::succeed(tool::command("nbdcopy").arg(&image).arg(server.uri()));
    let script = "for page in range(0, 12288, 2): h.trim(4096, page * 4096)";
    tool::succeed(tool::nbdsh().args(["-u", server.uri(), "-c", script]));
    content.chunks_mut(8192).for_each(|pair| pair[..4096].fill(0));
    content.resize(96 * MIB, 0);
    let expected = content::save(server.folder(), folder_name, &content);
    (server, expected)
}

#[test]
fn a_balloon_inflates_and_deflates_under_load() {
    need!("curl", "nbdcopy", "nbdsh");
    let (mut server, expected) = half_empty("expected.img");
    let full = server.resident_bytes();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let back = server.folder().join("load.img");
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
                content::assert_same(&expected, &back);
                rounds += 1;
            }
        });
        for target in [36 * MIB, 4 * MIB, 20 * MIB, 36 * MIB] {
            let (answer, status) = set(&server, &target.to_string());
            assert_eq!((&*status, &answer["outcome"]), ("200", &"reached".into()), "{answer:#}");
            assert_eq!(answer["balloon"]["actual"], target);
        }
        let small = server.resident_bytes();
        assert!(small + 16 * MIB as u64 <= full, "{full} bytes resident became {small}");
        let report = stat(&server);
        assert_eq!(
            (&report["balloon"]["mode"], &report["balloon"]["actual"]),
            (&"fixed".into(), &(36 * MIB).into())
        );
        assert!(number(&report, "mem_total") < 32 * MIB as u64, "{report:#}");

        let (answer, _) = set(&server, "\"off\"");
        assert_eq!(answer["balloon"]["actual"], 0);
        done.store(true, Ordering::Relaxed);
        load.join().expect("every byte matched");
    });
    server.assert_alive();
}

#[test]
fn a_full_store_deflates_the_balloon() {
    need!("curl", "nbdcopy", "nbdsh");
    let (mut server, _) = half_empty("unused.img");
    set(&server, &(36 * MIB).to_string());
    let more = content::save(server.folder(), "more.img", &content::noise(56 * MIB));
    tool::succeed(tool::command("nbdcopy").arg(&more).arg(server.uri()));
    let report = stat(&server);
    assert!(
        report["balloon"]["oom_deflated_total"].as_u64().is_some_and(|bytes| bytes > 0),
        "{:#}",
        report["balloon"]
    );
    // A full store can be compacted, too: there is memory to move objects, or nothing to gain.
    let json = tool::succeed(memzip("compact").args(["--json", "--control"]).arg(server.control()));
    let done: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(done["outcome"], "done", "{done:#}");
    server.assert_alive();
}

#[test]
fn an_impossible_balloon_is_refused_with_a_reason() {
    need!("curl");
    let server = Server::start("16M", &["--mem-limit", "32M"]);
    for target in ["-1", "\"much\"", "0.5", "1099511627776"] {
        let (answer, status) = set(&server, target);
        assert_eq!(status, "400", "{target}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.len() > 20), "{target}: {answer}");
    }
    assert_eq!(stat(&server)["balloon"]["actual"], 0);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = memzip("serve");
    command.args(["--size", "16M", "--mem-limit", "32M", "--balloon", "1T", "--unix"]);
    command.arg(folder.path().join("a")).arg("--control").arg(folder.path().join("b"));
    let text = tool::fail(&mut command);
    assert!(text.contains("balloon of 1099511627776 bytes"), "{text}");
}

#[test]
fn options_show_in_stat() {
    let options = [
        "--balloon",
        "8M",
        "--compact-background",
        "25%",
        "--movability",
        "off",
        "--mem-limit",
        "32M",
    ];
    let server = Server::start("16M", &options);
    let report = stat(&server);
    assert_eq!(
        (&report["balloon"]["mode"], &report["balloon"]["actual"]),
        (&"fixed".into(), &(8 * MIB).into())
    );
    assert_eq!(
        (&report["movability"], &report["background"]["cpu_percent"]),
        (&"off".into(), &25.into())
    );
    let server = Server::start("16M", &["--balloon", "auto"]);
    let report = stat(&server);
    assert_eq!(report["balloon"]["mode"], "auto");
    assert!(report["balloon"]["pressure"]["source"].is_string(), "{:#}", report["balloon"]);
}
