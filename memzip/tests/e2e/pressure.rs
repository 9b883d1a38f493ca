//! `--balloon auto` under memory pressure that is real: tasks in one control group with the server read a file that does not fit, again and again.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::content::{self, MIB};
use crate::control::stat;
use crate::group::Group;
use crate::server::Server;
use crate::tool::{self, need};

/// What the group may have: the server, and about half of the file.
const LIMIT: usize = 192 * MIB;

/// It does not fit beside the server, nor when the balloon has taken its first step.
const FILE: usize = 192 * MIB;

/// How long pressure may take to rise, and to be gone.
const TIMEOUT: Duration = Duration::from_secs(45);

/// A file in no cache, on a disk.
struct File(PathBuf);

impl File {
    fn new(len: usize) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pressure-{}", std::process::id()));
        std::fs::write(&path, content::noise(len)).expect("room beside the build");
        // What is cached now counts for whoever wrote it, and would be read at no cost.
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

/// Tasks that wait for memory; gone when dropped.
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
            // The file is read to its end once more at most.
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// Waits until the balloon is as wanted.
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

/// Without a file in between: on a busy machine the disk takes longer than all the rest.
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
fn a_balloon_gives_memory_away_while_tasks_wait_for_it_and_takes_it_back_later() {
    need!("nbdcopy", "nbdsh", "dd");
    let groups = Group::new(LIMIT as u64).and_then(|group| Ok((group, Group::new(LIMIT as u64)?)));
    let (group, other) = match groups {
        Ok(groups) => groups,
        Err(why) => {
            println!("SKIPPED: real memory pressure needs a control group of one's own: {why}");
            return;
        }
    };
    let file = File::new(FILE);
    let options = ["--mem-limit", "112M", "--compact-background", "off", "--balloon", "auto"];
    let server =
        Server::start_in(&group, "96M", &[&options[..], &["--balloon-pressure", "10:6"]].concat());
    // 96 MiB that cannot be compressed, of which each eighth page stays: 84 MiB are free, and scattered.
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
        "the group has the limit"
    );
    assert_eq!(
        (count(&calm, "actual"), count(&calm["pressure"], "raised")),
        (0, 0),
        "nobody waits yet"
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

    // It waits for calm, and 10 seconds after a change; then it does not swing back.
    let empty = wait(&server, |balloon| count(balloon, "actual") == 0);
    println!("{:?} later: {empty:#}", grown.elapsed());
    assert!(
        grown.elapsed() >= Duration::from_secs(8),
        "it shrank after {:?} already",
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

    // Its group goes from under it: it looks where it is now.
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
