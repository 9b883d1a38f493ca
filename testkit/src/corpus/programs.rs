//! The programs whose memory becomes part of the corpus: each is started, fed real files and
//! killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Page;

/// Longest time a program may take to load its data.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Resident size at which the compiler is stopped. Units: bytes.
const COMPILER_SIZE: u64 = 190 << 20;

/// A running program, killed when dropped.
pub(crate) struct Program {
    child: Child,
    socket: Option<PathBuf>,
}

impl Program {
    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Errors are ignored: a child that has already exited is the desired state.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// A function that fills a process with real data. `Err` says in one sentence why it cannot.
pub(crate) type StartFn = fn(&[Page]) -> Result<Program, String>;

/// All programs. Those that every machine has come last and fill the share of the missing ones.
pub(crate) const PROGRAMS: [(&str, StartFn); 8] = [
    ("java holding an index of words", java),
    ("redis-server holding lines of text", redis),
    ("node holding parsed lines", node),
    ("perl holding word lists", perl),
    ("rustc compiling a crate", rustc),
    ("python3 holding digests, previews and vectors", python_digests),
    ("python3 holding syntax trees and a database", python_trees),
    ("python3 holding an index of words", python_words),
];

fn python_words(_: &[Page]) -> Result<Program, String> {
    let script = include_str!("scripts/words.py");
    until_ready(Command::new("python3").args([
        "-c",
        script,
        "/usr/share/doc",
        "/usr/include",
        "/usr/share",
    ]))
}

fn python_trees(_: &[Page]) -> Result<Program, String> {
    until_ready(Command::new("python3").args(["-c", include_str!("scripts/trees.py")]))
}

fn python_digests(_: &[Page]) -> Result<Program, String> {
    until_ready(Command::new("python3").args([
        "-c",
        include_str!("scripts/digests.py"),
        "/usr/bin",
        "/usr/share",
        "/usr/lib",
    ]))
}

fn java(_: &[Page]) -> Result<Program, String> {
    // `java` compiles and runs a program of one source file, but only from a file.
    let source =
        std::env::temp_dir().join(format!("memzip-corpus-{}-Words.java", std::process::id()));
    std::fs::write(&source, include_str!("scripts/Words.java"))
        .map_err(|error| error.to_string())?;
    let started = until_ready(
        Command::new("java").arg("-Xmx256m").arg(&source).args(["/usr/include", "/usr/share/doc"]),
    );
    let _ = std::fs::remove_file(&source);
    started
}

fn perl(_: &[Page]) -> Result<Program, String> {
    let script = include_str!("scripts/words.pl");
    until_ready(Command::new("perl").args([
        "-e",
        script,
        "/usr/include",
        "/usr/share/perl",
        "/usr/share/doc",
    ]))
}

fn node(_: &[Page]) -> Result<Program, String> {
    until_ready(Command::new("node").args([
        "-e",
        include_str!("scripts/words.js"),
        "/usr/include",
        "/usr/share",
    ]))
}

/// Starts a command and waits until it prints that its data is loaded. The command then waits on
/// its standard input.
fn until_ready(command: &mut Command) -> Result<Program, String> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut program = Program { child: child.map_err(|error| error.to_string())?, socket: None };
    let stdout = program.child.stdout.take().ok_or("no standard output")?;
    let line = thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map(|_| line)
    });
    let start = Instant::now();
    while !line.is_finished() {
        if start.elapsed() > START_TIMEOUT {
            return Err(format!("not ready after {} s", START_TIMEOUT.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    match line.join() {
        Ok(Ok(line)) if line.trim() == "ready" => Ok(program),
        _ => Err("ended before its data was loaded".into()),
    }
}

/// Starts a redis server and fills it over its own protocol with lines of the text corpus.
fn redis(text: &[Page]) -> Result<Program, String> {
    let socket = std::env::temp_dir().join(format!("memzip-corpus-{}.redis", std::process::id()));
    let child = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--unixsocketperm",
            "600",
            "--unixsocket",
        ])
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    // Killed by `Drop` if the loading below fails.
    let program = Program { child, socket: Some(socket.clone()) };
    let stream = connect(&socket).map_err(|error| error.to_string())?;
    set_lines(stream, text).map_err(|error| error.to_string())?;
    Ok(program)
}

fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(_) if start.elapsed() < Duration::from_secs(5) => {
                thread::sleep(Duration::from_millis(10))
            }
            outcome => return outcome,
        }
    }
}

/// Loads 64 MiB of text as one hash per page: the field is the line number, the value the line.
fn set_lines(mut stream: UnixStream, text: &[Page]) -> std::io::Result<()> {
    let mut pages = 0;
    for (number, page) in text.iter().step_by((text.len() / 16_384).max(1)).enumerate() {
        let mut command: Vec<Vec<u8>> =
            vec![b"HSET".to_vec(), format!("page:{number}").into_bytes()];
        for (line, content) in page.split(|&byte| byte == b'\n').enumerate() {
            command.push(line.to_string().into_bytes());
            command.push(content.to_vec());
        }
        let mut wire = format!("*{}\r\n", command.len()).into_bytes();
        for word in &command {
            wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            wire.extend_from_slice(word);
            wire.extend_from_slice(b"\r\n");
        }
        stream.write_all(&wire)?;
        // The reply is an integer on one line. Waiting for it keeps the server's reply buffer out
        // of
        // the corpus.
        let mut byte = [0];
        while byte[0] != b'\n' {
            stream.read_exact(&mut byte)?;
        }
        pages += 1;
    }
    if pages == 0 { Err(std::io::Error::other("no text to load")) } else { Ok(()) }
}

/// Starts the compiler on a crate of cargo's registry without dependencies, and stops it
/// (SIGSTOP) once it is large enough.
fn rustc(_: &[Page]) -> Result<Program, String> {
    let source =
        registry_crate("regex-syntax-").ok_or("no regex-syntax in cargo's registry to compile")?;
    let child = Command::new("rustc")
        .args([
            "--edition=2021",
            "--crate-type=lib",
            "--crate-name=regex_syntax",
            "--cap-lints=allow",
            "-Copt-level=3",
        ])
        .args([
            "-Ccodegen-units=1",
            "--cfg=feature=\"std\"",
            "--cfg=feature=\"unicode\"",
            "--emit=obj",
            "-o",
            "/dev/null",
        ])
        .arg(source.join("src/lib.rs"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut program = Program { child, socket: None };
    let pid = Pid::from_child(&program.child);
    let mut stopped = program.child.try_wait();
    // Poll until the compiler is large enough or exits.
    while let Ok(None) = stopped {
        if resident(program.pid()) > COMPILER_SIZE {
            return kill_process(pid, Signal::STOP)
                .map(|()| program)
                .map_err(|errno| errno.to_string());
        }
        thread::sleep(Duration::from_millis(5));
        stopped = program.child.try_wait();
    }
    Err(format!("finished before it held {} MiB", COMPILER_SIZE >> 20))
}

fn registry_crate(prefix: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let registries = std::fs::read_dir(cargo.join("registry/src")).ok()?;
    let crates = registries
        .flatten()
        .filter_map(|registry| std::fs::read_dir(registry.path()).ok())
        .flatten()
        .flatten();
    crates.map(|entry| entry.path()).find(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
    })
}

/// Returns the resident bytes of a process, 0 when it is gone.
fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
