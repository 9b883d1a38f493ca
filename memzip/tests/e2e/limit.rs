//! Tests of the memory limit: it is never exceeded, writes fail with ENOSPC, and the server goes
//! on.

use crate::content::{self, MIB};
use crate::control::{curl, stat};
use crate::server::Server;
use crate::tool::{self, need};

#[test]
fn a_full_disk_returns_enospc_and_keeps_its_content() {
    need!("qemu-io", "nbdcopy");
    let mut server = Server::start("64M", &["--mem-limit", "16M", "--algorithm", "lz4"]);
    let first = content::save(server.folder(), "first", &content::programs(8 * MIB));
    let noise = content::save(server.folder(), "noise", &content::noise(48 * MIB));
    let qemu_io = |command: &str| {
        tool::command("qemu-io").args(["-f", "raw", "-c", command]).arg(server.uri()).output()
    };
    let output = qemu_io(&format!("write -s {} 0 8M", first.display())).expect("qemu-io");
    assert!(output.status.success(), "{}", tool::text(&output));

    let output = qemu_io(&format!("write -s {} 8M 48M", noise.display())).expect("qemu-io");
    let text = tool::text(&output);
    assert!(text.contains("No space left on device"), "{text}");
    let stat_full = stat(&server);
    let used = stat_full["mem_used_total"].as_u64().expect("a number");
    assert!(used <= 16 << 20, "{used} bytes used, more than the limit");

    let back = server.folder().join("back.img");
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    let back = std::fs::read(back).expect("the copy");
    assert!(back[..8 * MIB] == content::programs(8 * MIB), "earlier content changed");

    let freed =
        ["-c", "discard 8M 56M", "-c", "write -P 0x66 32M 64k", "-c", "read -P 0x66 32M 64k"];
    tool::succeed(
        tool::command("qemu-io").args(["-f", "raw", "-d", "unmap"]).args(freed).arg(server.uri()),
    );
    server.assert_alive();
}

#[test]
fn a_refused_overwrite_leaves_the_old_content() {
    need!("nbdcopy");
    let mut server = Server::start("32M", &["--mem-limit", "8M", "--algorithm", "lz4"]);
    let old = vec![b'a'; 32 * MIB];
    let new = content::noise(32 * MIB);
    let [old_file, new_file] = [("old", &old), ("new", &new)]
        .map(|(name, bytes)| content::save(server.folder(), name, bytes));
    tool::succeed(tool::command("nbdcopy").arg(&old_file).arg(server.uri()));
    let text = tool::fail(tool::command("nbdcopy").arg(&new_file).arg(server.uri()));
    assert!(text.contains("No space left on device"), "{text}");
    let back = server.folder().join("back.img");
    tool::succeed(tool::command("nbdcopy").arg(server.uri()).arg(&back));
    let back = std::fs::read(back).expect("the copy");
    let pages = back.chunks(4096).zip(old.chunks(4096)).zip(new.chunks(4096));
    assert!(
        pages.into_iter().all(|((found, old), new)| found == old || found == new),
        "a page is neither old nor new"
    );
    server.assert_alive();
}

#[test]
fn allocated_zeros_are_reserved_or_refused() {
    need!("qemu-io");
    let mut server = Server::start("64M", &["--mem-limit", "16M", "--algorithm", "lz4"]);
    let noise = content::save(server.folder(), "noise", &content::noise(48 * MIB));
    // Without -u, qemu-io asks for zeros that stay allocated.
    let qemu_io = |command: &str| {
        let output = tool::command("qemu-io")
            .args(["-f", "raw", "-d", "unmap", "-c", command])
            .arg(server.uri())
            .output();
        tool::text(&output.expect("qemu-io"))
    };
    let text = qemu_io("write -z 0 32M");
    assert!(text.contains("No space left on device"), "{text}");
    assert_eq!(stat(&server)["mem_reserved"], 0);
    let text = qemu_io("write -z 0 8M");
    assert!(text.contains("wrote 8388608/8388608 bytes"), "{text}");
    assert_eq!(stat(&server)["mem_reserved"], 8 << 20);

    let text = qemu_io(&format!("write -s {} 16M 48M", noise.display()));
    assert!(text.contains("No space left on device"), "{text}");
    let text = qemu_io(&format!("write -s {} 0 8M", noise.display()));
    assert!(text.contains("wrote 8388608/8388608 bytes"), "{text}");
    assert_eq!(stat(&server)["mem_reserved"], 0);
    assert!(stat(&server)["mem_used_total"].as_u64().expect("a number") <= 16 << 20);
    server.assert_alive();
}

#[test]
fn a_nearly_full_disk_warns_before_writes_fail() {
    need!("qemu-io", "curl");
    let server =
        Server::start_with_stderr_file("64M", &["--mem-limit", "16M", "--algorithm", "lz4"]);
    let noise = content::save(server.folder(), "noise", &content::noise(16 * MIB));
    let write = |command: &str| {
        let output =
            tool::command("qemu-io").args(["-f", "raw", "-c", command]).arg(server.uri()).output();
        tool::text(&output.expect("qemu-io"))
    };
    let metric = || {
        let page = curl(&server, &[], "/metrics");
        let line = page.lines().find(|line| line.starts_with("memzip_nearly_full "));
        line.unwrap_or_else(|| panic!("no memzip_nearly_full in {page}")).to_owned()
    };
    let text = write(&format!("write -s {} 0 8M", noise.display()));
    assert!(text.contains("wrote 8388608/8388608 bytes"), "{text}");
    assert_eq!(server.stderr(), "");
    assert_eq!(
        (&stat(&server)["nearly_full"], metric().as_str()),
        (&false.into(), "memzip_nearly_full 0")
    );

    const STEP: usize = 128 << 10;
    let before = (8 * MIB..16 * MIB).step_by(STEP).take_while(|at| {
        let text = write(&format!("write -s {} {at} {STEP}", noise.display()));
        assert!(
            text.contains("wrote 131072/131072 bytes"),
            "a write failed before the warning: {text}"
        );
        server.stderr().is_empty()
    });
    assert!(before.count() > 20);
    let text = write(&format!("write -s {} 16M 16M", noise.display()));
    assert!(text.contains("No space left on device"), "{text}");
    let text = server.stderr();
    assert!(
        text.starts_with("memzip: nearly full: ")
            && text.contains(" of --mem-limit 16M are needed"),
        "{text}"
    );
    assert_eq!(
        (&stat(&server)["nearly_full"], metric().as_str()),
        (&true.into(), "memzip_nearly_full 1")
    );
    assert_eq!(stat(&server)["nearly_full_total"], 1);
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_full_disk_without_a_terminal_stays_alive() {
    need!("qemu-io");
    let mut server =
        Server::start_with_closed_stderr("64M", &["--mem-limit", "16M", "--algorithm", "lz4"]);
    let noise = content::save(server.folder(), "noise", &content::noise(32 * MIB));
    let command = format!("write -s {} 0 32M", noise.display());
    let output =
        tool::command("qemu-io").args(["-f", "raw", "-c", &command]).arg(server.uri()).output();
    let text = tool::text(&output.expect("qemu-io"));
    assert!(text.contains("No space left on device"), "{text}");
    let stat = stat(&server);
    assert_eq!(
        (&stat["nearly_full_total"], &stat["nbd"]["errors"]["broken_conversations"]),
        (&1.into(), &0.into())
    );
    server.assert_alive();
}
