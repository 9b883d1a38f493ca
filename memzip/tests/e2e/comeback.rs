//! Memory returns to the OS by itself after pages were trimmed at random.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::content::{self, MIB};
use crate::control::stat;
use crate::server::Server;

const PAGE: usize = 4096;

/// Size of what the client writes. Units: bytes.
const SIZE: usize = 256 * MIB;

/// Time limit for the memory to return.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A minimal NBD client for writes and trims.
struct Client(UnixStream);

impl Client {
    fn connect(server: &Server) -> Self {
        let mut stream = UnixStream::connect(server.socket()).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout");
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).expect("a greeting");
        // Fixed newstyle without zeroes, then NBD_OPT_EXPORT_NAME with an empty name.
        stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0").expect("a handshake");
        let mut export = [0; 10];
        stream.read_exact(&mut export).expect("size and flags");
        Self(stream)
    }

    fn request(&mut self, command: u16, offset: usize, len: usize, payload: &[u8]) {
        let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
        request.extend([0, 0]);
        request.extend(command.to_be_bytes());
        request.extend([0; 8]);
        request.extend((offset as u64).to_be_bytes());
        request.extend((len as u32).to_be_bytes());
        request.extend_from_slice(payload);
        self.0.write_all(&request).expect("the server reads");
    }

    fn receive_replies(&mut self, count: usize) {
        let mut reply = [0; 16];
        for _ in 0..count {
            self.0.read_exact(&mut reply).expect("a reply");
            assert_eq!(reply[4..8], [0; 4], "no error");
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.request(1, offset, bytes.len(), bytes);
        self.receive_replies(1);
    }

    fn trim(&mut self, pages: &[usize]) {
        for some in pages.chunks(64) {
            some.iter().for_each(|page| self.request(4, page * PAGE, PAGE, &[]));
            self.receive_replies(some.len());
        }
    }
}

/// Returns all pages of the disk in random order, the same in every run.
fn shuffled() -> Vec<usize> {
    let mut pages: Vec<usize> = (0..SIZE / PAGE).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut pages);
    pages
}

fn fill(client: &mut Client, content: &[u8], offset: usize) {
    for (number, part) in content.chunks(MIB).enumerate() {
        client.write(offset + number * MIB, part);
    }
}

/// Returns the resident memory beyond that of an empty server, and its upper bound.
fn held(server: &Server, at_start: u64) -> (u64, u64) {
    let used = stat(server)["mem_used_total"].as_u64().expect("a number");
    (server.resident_bytes().saturating_sub(at_start), used * 108 / 100 + 8 * MIB as u64)
}

/// A history of a server.
struct Scene {
    trimmed_percent: usize,
    peak: bool,
    options: &'static [&'static str],
    /// Whether a client overwrites pages meanwhile.
    load: bool,
}

fn run_scene(scene: &Scene, content: &[u8]) {
    let server = Server::start("512M", scene.options);
    let at_start = server.resident_bytes();
    let mut client = Client::connect(&server);
    fill(&mut client, content, 0);
    if scene.peak {
        fill(&mut client, content, SIZE);
        client.request(4, SIZE, SIZE, &[]);
        client.receive_replies(1);
    }
    let pages = shuffled();
    let (trimmed, kept) = pages.split_at(pages.len() * scene.trimmed_percent / 100);
    client.trim(trimmed);
    let trim_time = Instant::now();
    let mut writes = 0;
    let last = loop {
        let (held, max) = held(&server, at_start);
        if held <= max {
            break (held, max);
        }
        let late = trim_time.elapsed() > TIMEOUT;
        assert!(
            !late,
            "{} %: {held} bytes held, {max} allowed: {:#}",
            scene.trimmed_percent,
            stat(&server)
        );
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_millis(500) {
            if scene.load {
                let page = kept[writes * 31 % kept.len()];
                client.write(page * PAGE, &content[writes * PAGE % SIZE..][..PAGE]);
                writes += 1;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    println!(
        "{} % trimmed: {last:?} after {:?}, {writes} writes",
        scene.trimmed_percent,
        trim_time.elapsed()
    );
    if !scene.load {
        assert_idle(&server);
    }
}

/// S-47: without anything to gain nothing moves and no CPU time is used.
fn assert_idle(server: &Server) {
    let cpu = |server: &Server| stat(server)["background"]["cpu_us"].as_u64().expect("a number");
    // The background thread may be at work that the bound above does not require.
    std::thread::sleep(Duration::from_secs(2));
    let (used, moved) = (cpu(server), stat(server)["vmstat"]["pgmigrate_success"].clone());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu(server) - used;
    assert!(used < 50_000, "{used} us of a CPU in two seconds of rest");
    assert_eq!(stat(server)["vmstat"]["pgmigrate_success"], moved, "frames move without a gain");
}

#[test]
fn trimmed_memory_returns_by_itself() {
    let content = content::programs(SIZE);
    let balloon = &["--mem-limit", "1G", "--balloon", "256M"];
    for scene in [
        Scene { trimmed_percent: 50, peak: false, options: &[], load: true },
        Scene { trimmed_percent: 75, peak: false, options: balloon, load: false },
        Scene { trimmed_percent: 90, peak: true, options: &[], load: false },
    ] {
        run_scene(&scene, &content);
    }
}
