//! `--balloon auto` under real memory pressure: tasks in the server's control group read, again and
//! again, a file that does not fit into memory.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::content::{self, MIB};
use crate::control::stat;
use crate::group::Group;
use crate::server::Server;
use crate::tool::{self, need};

/// Memory limit of the group: the server and about half of the file. Units: bytes.
const LIMIT: usize = 192 * MIB;

/// Length of the file. It does not fit beside the server, even after the first step of the balloon.
/// Units: bytes.
const FILE: usize = 192 * MIB;

/// Time limit for pressure to rise and to fall.
const TIMEOUT: Duration = Duration::from_secs(45);

/// A file on disk that is not in the page cache.
struct File(PathBuf);

impl File {
    fn new(len: usize) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pressure-{}", std::process::id()));
        std::fs::write(&path, content::noise(len)).expect("disk space for the file");
        // Cached pages would be charged to this process and be read at no cost: drop them.
        let forget = ["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"];
        tool::succeed(tool::command("dd").arg(format!("of={}", path.display())).args(forget));
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// Tasks that wait for memory; killed when dropped.
struct Pressure(Vec<Child>);

impl Pressure {
    fn start(group: &Group, file: &File) -> Self {
        let read = "while :; do cat \"$0\" > /dev/null; done";
        let reader = |_| {
            let mut command = group.command("sh");
            command.args(["-c", read]).arg(&file.0).stdin(Stdio::null()).spawn().expect("a shell")
        };
        Self((0..4).map(reader).collect())
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // A killed shell leaves at most one `cat`, which reads the file to its end.
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// Waits until the balloon satisfies `wanted`, and returns it.
fn wait(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let balloon = stat(server)["balloon"].take();
        if wanted(&balloon) {
            return balloon;
        }
        assert!(start.elapsed() < TIMEOUT, "after {} s: {balloon:#}", TIMEOUT.as_secs());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn count(balloon: &Value, name: &str) -> u64 {
    balloon[name].as_u64().unwrap_or_else(|| panic!("no {name} in {balloon:#}"))
}

/// Compares the disk with `expected`. The copy goes through a pipe, since a busy machine's disk
/// takes longer than everything else.
fn assert_holds(server: &Server, expected: &[u8]) {
    let output = tool::finish(tool::command("nbdcopy").arg(server.uri()).arg("-"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let differ = expected.iter().zip(&output.stdout).position(|(a, b)| a != b);
    assert_eq!(
        (output.stdout.len(), differ),
        (expected.len(), None),
        "the length, and where the bytes differ"
    );
}

#[test]
fn an_auto_balloon_follows_real_memory_pressure() {
    need!("nbdcopy", "nbdsh", "dd");
    let groups = Group::new(LIMIT as u64).and_then(|group| Ok((group, Group::new(LIMIT as u64)?)));
    let (group, other) = match groups {
        Ok(groups) => groups,
        Err(why) => {
            println!("SKIPPED: real memory pressure needs a control group: {why}");
            return;
        }
    };
    let file = File::new(FILE);
    let options = ["--mem-limit", "112M", "--compact-background", "off", "--balloon", "auto"];
    let server =
        Server::start_in(&group, "96M", &[&options[..], &["--balloon-pressure", "10:6"]].concat());
    // 96 MiB that do not compress, of which each eighth page stays: 84 MiB are free but scattered.
    let mut content = content::noise(96 * MIB);
    let image = content::save(server.folder(), "in.img", &content);
    tool::succeed(tool::command("nbdcopy").arg(&image).arg(server.uri()));
    let script = "for page in range(0, 24576, 8): h.trim(7 * 4096, page * 4096)";
    tool::succeed(tool::nbdsh().args(["-u", server.uri(), "-c", script]));
    content.chunks_mut(8 * 4096).for_each(|pages| pages[..7 * 4096].fill(0));

    let calm = wait(&server, |balloon| balloon["pressure"]["some_avg10"].is_u64());
    assert_eq!(
        calm["pressure"]["source"],
        group.pressure_file().display().to_string(),
        "the server must follow its group"
    );
    assert_eq!(
        (count(&calm, "actual"), count(&calm["pressure"], "raised")),
        (0, 0),
        "the balloon grew without pressure"
    );
    let full = server.resident_bytes();

    let begin = Instant::now();
    let pressure = Pressure::start(&group, &file);
    let large = wait(&server, |balloon| count(balloon, "actual") >= 64 * MIB as u64);
    let grown = Instant::now();
    let small = server.resident_bytes();
    drop(pressure);
    println!("after {:?}: {large:#}", begin.elapsed());
    assert!(small + 64 * MIB as u64 <= full, "{full} bytes resident became {small}");
    assert!(count(&calm, "held") >= count(&large, "held") + 64 * MIB as u64, "{calm:#} {large:#}");
    assert_holds(&server, &content);

    // The balloon deflates when pressure is low, 10 seconds after the last change at the earliest,
    // and does not inflate again.
    let empty = wait(&server, |balloon| count(balloon, "actual") == 0);
    println!("{:?} later: {empty:#}", grown.elapsed());
    assert!(
        grown.elapsed() >= Duration::from_secs(8),
        "the balloon deflated too early, after {:?}",
        grown.elapsed()
    );
    assert!(count(&empty["pressure"], "lowered") >= 1);
    assert_eq!(count(&empty["pressure"], "failures"), 0);
    std::thread::sleep(Duration::from_secs(3));
    let later = stat(&server)["balloon"].take();
    assert_eq!(
        (&later["pressure"]["raised"], count(&later, "actual")),
        (&empty["pressure"]["raised"], 0)
    );
    assert_holds(&server, &content);

    // The server's group is replaced: it must follow the new group.
    other.add_process(server.pid());
    drop(group);
    let moved = wait(&server, |balloon| {
        let pressure = &balloon["pressure"];
        count(pressure, "readings") > count(&later["pressure"], "readings")
            && pressure["problem"].is_null()
    });
    assert_eq!(moved["pressure"]["source"], other.pressure_file().display().to_string());
    drop(server);
}
