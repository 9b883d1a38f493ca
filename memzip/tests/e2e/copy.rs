//! Tests with libnbd's nbdcopy and nbdinfo.

use serde_json::Value;

use crate::content::{self, MIB};
use crate::server::Server;
use crate::tool::{self, need};

/// Copies real files to the disk and back with these options of nbdcopy, and compares them.
fn round_trip(server: &Server, options: &[&str]) {
    let image = content::save(server.folder(), "in.img", &content::programs(64 * MIB));
    let back = server.folder().join("out.img");
    tool::succeed(tool::command("nbdcopy").args(options).arg(&image).arg(server.uri()));
    tool::succeed(tool::command("nbdcopy").args(options).arg(server.uri()).arg(&back));
    content::assert_same(&image, &back);
}

#[test]
fn nbdcopy_reads_back_what_it_wrote() {
    need!("nbdcopy");
    round_trip(&Server::start("64M", &[]), &[]);
}

#[test]
fn many_connections_and_requests_lose_nothing() {
    need!("nbdcopy");
    round_trip(
        &Server::start("64M", &["--algorithm", "lz4"]),
        &["--connections=8", "--requests=64", "--request-size=65536"],
    );
}

#[test]
fn requests_of_32_mib_are_served() {
    need!("nbdcopy");
    round_trip(
        &Server::start("64M", &["--algorithm", "lz4"]),
        &["--request-size=33554432", "--requests=2"],
    );
}

#[test]
fn a_synchronous_client_is_served() {
    need!("nbdcopy");
    round_trip(&Server::start("64M", &["--algorithm", "lz4hc:4"]), &["--synchronous"]);
}

#[test]
fn tcp_serves_the_same_bytes_as_a_unix_socket() {
    need!("nbdcopy");
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let server = Server::start_on_tcp("64M", free.port());
    assert!(server.uri().starts_with("nbd://"), "{}", server.uri());
    round_trip(&server, &[]);
}

#[test]
fn a_short_zspage_chain_stores_the_same_bytes() {
    need!("nbdcopy");
    round_trip(&Server::start("64M", &["--chain", "4", "--algorithm", "lz4"]), &[]);
}

#[test]
fn an_overwritten_disk_holds_the_second_image() {
    need!("nbdcopy");
    let server = Server::start("64M", &["--algorithm", "lz4"]);
    let noise = content::save(server.folder(), "noise.img", &content::noise(64 * MIB));
    tool::succeed(tool::command("nbdcopy").arg(&noise).arg(server.uri()));
    round_trip(&server, &[]);
}

fn export_of(uri: &str) -> Value {
    let json = tool::succeed(tool::command("nbdinfo").arg("--json").arg(uri));
    let info: Value = serde_json::from_str(&json).expect("nbdinfo prints JSON");
    info["exports"][0].clone()
}

#[test]
fn nbdinfo_sees_the_size_and_every_ability() {
    need!("nbdinfo");
    let server = Server::start("1G", &[]);
    let export = export_of(server.uri());
    assert_eq!(export["export-size"], 1 << 30, "{export:#}");
    for ability in ["cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"] {
        assert_eq!(export[format!("can_{ability}")], true, "can_{ability}: {export:#}");
    }
    assert_eq!(export["is_read_only"], false, "{export:#}");
    assert_eq!(export["block_size_minimum"], 1, "{export:#}");
    assert_eq!(export["block_size_preferred"], 4096, "{export:#}");
    assert_eq!(export["block_size_maximum"], 32 * MIB, "{export:#}");
    assert_eq!(export["contexts"][0], "base:allocation", "{export:#}");
}

#[test]
fn the_map_shows_holes_data_and_discards() {
    need!("nbdinfo", "qemu-io");
    let server = Server::start("4M", &[]);
    let map = || -> Vec<(u64, u64, u64)> {
        let json =
            tool::succeed(tool::command("nbdinfo").args(["--map", "--json"]).arg(server.uri()));
        let map: Vec<Value> = serde_json::from_str(&json).expect("nbdinfo prints JSON");
        let number = |extent: &Value, name: &str| extent[name].as_u64().expect("a number");
        map.iter()
            .map(|extent| {
                (number(extent, "offset"), number(extent, "length"), number(extent, "type"))
            })
            .collect()
    };
    // 3 = a hole that reads as zeros, 0 = data.
    let mib = MIB as u64;
    assert_eq!(map(), [(0, 4 * mib, 3)]);
    let image = content::save(server.folder(), "mib", &content::programs(MIB));
    let write = format!("write -s {} 1M 1M", image.display());
    tool::succeed(tool::command("qemu-io").args(["-f", "raw", "-c", &write]).arg(server.uri()));
    assert_eq!(map(), [(0, mib, 3), (mib, mib, 0), (2 * mib, 2 * mib, 3)]);
    tool::succeed(
        tool::command("qemu-io").args(["-f", "raw", "-c", "discard 1M 1M"]).arg(server.uri()),
    );
    assert_eq!(map(), [(0, 4 * mib, 3)]);
}

#[test]
fn the_export_has_only_the_given_name() {
    need!("nbdinfo");
    let server = Server::start("4M", &["--export-name", "cold"]);
    assert_eq!(export_of(server.uri())["export-name"], "cold");
    let wrong = server.uri().replace("/cold?", "/warm?");
    assert_ne!(wrong, server.uri(), "the URI names the export");
    tool::fail(tool::command("nbdinfo").arg(wrong));
    let listed =
        tool::succeed(tool::command("nbdinfo").args(["--list", "--json"]).arg(server.uri()));
    assert!(listed.contains("\"cold\""), "{listed}");
}

#[test]
fn a_read_only_disk_is_marked_and_refuses_writes() {
    need!("nbdinfo", "nbdcopy");
    let server = Server::start("4M", &["--read-only"]);
    assert_eq!(export_of(server.uri())["is_read_only"], true);
    let image = content::save(server.folder(), "in.img", &content::programs(4 * MIB));
    tool::fail(tool::command("nbdcopy").arg(&image).arg(server.uri()));
    let back = server.folder().join("out.img");
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    assert!(std::fs::read(&back).expect("the copy").iter().all(|byte| *byte == 0));
}
