//! Tests of the control plane over its real socket, with a real disk behind it.

mod balloon;
mod fields;
mod limit;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use block::{BlockDevice, Bytes, Span};
use nbd::{Listen, Server, ServerConfig};
use tempfile::TempDir;
use zram::{Zram, ZramConfig};

use super::change_json::{BalloonChange, CompactReport, CompactRequest};
use super::stat_json::{StatReport, memory_parts};
use super::*;

/// Pages of the disk under test.
const PAGES: u64 = 2048;

/// A control plane in its own folder.
struct Fixture {
    disk: Arc<Zram>,
    state: Arc<ServerState>,
    // Dropped before the folder: it removes its socket from there.
    _plane: ControlPlane,
    folder: TempDir,
}

impl Fixture {
    fn start(limits: ClientLimits) -> Self {
        let (disk, state, folder) = Self::parts();
        let routes = Routes::new(Arc::clone(&state));
        let plane = ControlPlane::with_limits(folder.path().join("control"), routes, limits)
            .expect("it starts");
        Self { disk, state, _plane: plane, folder }
    }

    fn parts() -> (Arc<Zram>, Arc<ServerState>, TempDir) {
        Self::parts_with_limit(Some(Bytes(64 << 20)))
    }

    fn parts_with_limit(mem_limit: Option<Bytes>) -> (Arc<Zram>, Arc<ServerState>, TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let algorithm = "lz4".parse().expect("known");
        let config = ZramConfig { algorithm, mem_limit, ..ZramConfig::new(Bytes(PAGES * 4096)) };
        let disk = Arc::new(Zram::new(config).expect("a small disk"));
        let listen = Listen::Unix(folder.path().join("nbd"));
        let server = Server::bind(listen, Arc::clone(&disk) as _, ServerConfig::default())
            .expect("a free path");
        let maintenance = Maintenance::start(&disk, MaintenanceConfig::default())
            .expect("maintenance without a balloon");
        let state = Arc::new(ServerState::new(Arc::clone(&disk), maintenance, &server));
        (disk, state, folder)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// Writes pages that compress to about a third, then discards every second one.
    fn fill_and_thin(&self) {
        for page in 0..PAGES {
            let text: String = (0..600)
                .map(|word| format!("{:x}", (page + 1) * (word + 7) * 2_654_435_761))
                .collect();
            let span = Span::new(page * 4096, 4096, self.disk.size()).expect("inside");
            self.disk.write(span, &text.as_bytes()[..4096]).expect("room");
        }
        for page in (0..PAGES).step_by(2) {
            let span = Span::new(page * 4096, 4096, self.disk.size()).expect("inside");
            self.disk.discard(span).expect("a writable disk");
        }
    }

    /// Sends a raw request; returns the status, the headers and the body.
    fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = StdStream::connect(self.socket()).expect("a listening socket");
        stream.write_all(request.as_bytes()).expect("room in the socket");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in ASCII");
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{answer:?} is not an HTTP answer"));
        let status =
            head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    fn post(&self, body: &str) -> (u16, String) {
        self.post_to("/v1/compact", body)
    }

    /// Sets the balloon; the answer must be a change.
    fn balloon(&self, body: &str) -> BalloonChange {
        let (status, answer) = self.post_to("/v1/balloon", body);
        assert_eq!(status, 200, "{body}: {answer}");
        serde_json::from_str(&answer).expect("JSON")
    }

    fn post_to(&self, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, _, body) = self.raw(&request);
        (status, body)
    }
}

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
fn compact_frees_frames_and_reports_how_many() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let report = client::compact(&fixture.socket(), CompactRequest::default()).expect("it answers");
    assert!(
        report.object_work.objects_moved > 0 && report.object_work.frames_freed > 0,
        "{report:?}"
    );
    assert_eq!(
        report.mem_used_before - report.mem_used_after,
        report.object_work.frames_freed * 4096
    );
    assert_eq!(report.outcome, "done");
    assert!(report.mem_total_after <= report.mem_total_before, "{report:?}");
    assert_eq!(fixture.state.stat().mm.pages_compacted, report.object_work.frames_freed);
}

#[test]
fn compaction_stays_within_its_budget() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let (status, body) = fixture.post("{\"budget_ms\": 0}");
    assert_eq!(status, 200, "{body}");
    let report: CompactReport = serde_json::from_str(&body).expect("JSON");
    assert_eq!((report.object_work.objects_moved, report.outcome.as_str()), (0, "out of time"));
    let (status, body) = fixture.post("");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"outcome\":\"done\""), "{body}");
}

/// Sends three requests to three disks in the same state.
#[test]
fn only_the_requested_kinds_are_compacted() {
    let ask = |body: &str| {
        let fixture = Fixture::start(CLIENT_LIMITS);
        fixture.fill_and_thin();
        let (status, body) = fixture.post(body);
        assert_eq!(status, 200, "{body}");
        let report: CompactReport = serde_json::from_str(&body).expect("JSON");
        (report, fixture.state.stat())
    };
    let (objects, stat) = ask("{\"frames\": false}");
    assert!(
        objects.object_work.objects_moved > 0 && objects.frame_work.frames_moved == 0,
        "{objects:?}"
    );
    assert!(objects.objects.is_some_and(|part| part.outcome == "done") && objects.frames.is_none());
    assert_eq!((stat.compaction.runs, stat.vmstat["compact_migrate_scanned"]), (1, 0));

    let (frames, stat) = ask("{\"objects\": false}");
    assert!(frames.object_work.objects_moved == 0 && frames.frame_work.scanned > 0, "{frames:?}");
    assert!(frames.objects.is_none() && frames.frames.is_some_and(|part| part.outcome == "done"));
    assert_eq!(stat.compaction.runs, 0);
    assert_eq!(stat.vmstat["compact_migrate_scanned"], frames.frame_work.scanned);
    assert_eq!(stat.vmstat["pgmigrate_success"], frames.frame_work.frames_moved);

    let (both, stat) = ask("{\"objects\": true, \"frames\": true, \"budget_ms\": 200000}");
    assert!(both.object_work.objects_moved > 0 && both.frame_work.scanned > 0, "{both:?}");
    assert_eq!(stat.compaction.objects_moved, both.object_work.objects_moved);
    assert_eq!((stat.vmstat["nr_isolated"], &*stat.movability), (0, "on"));
    assert!(stat.pagetypeinfo.starts_with("Page block order: 9\n"), "{}", stat.pagetypeinfo);
}

#[test]
fn the_answer_says_what_is_wrong_with_a_request() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    let (status, head, body) = fixture.raw("GET /v2/stat HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(status, 404, "{head}");
    assert!(body.contains("/v2/stat") && body.contains("/v1/stat"), "{body}");
    let (status, head, body) = fixture.raw("DELETE /v1/stat HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(status, 405, "{body}");
    assert!(head.contains("allow: get, head"), "{head}");
    let (status, head, _) = fixture.raw("GET /v1/compact HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(status, 405);
    assert!(head.contains("allow: post"), "{head}");
    for junk in
        ["{", "[]", "{\"budget_ms\": -1}", "{\"budget_ms\": \"long\"}", "{\"budget\": 1}", "\u{7f}"]
    {
        let (status, body) = fixture.post(junk);
        assert_eq!(status, 400, "{junk}: {body}");
        assert!(body.contains("budget_ms"), "{junk}: {body}");
    }
    for junk in [
        "{\"objects\": 1}",
        "{\"frames\": \"yes\"}",
        "{\"frame\": true}",
        "{\"budget_ms\": 1e3}",
        "[true]",
    ] {
        assert_eq!(fixture.post(junk).0, 400, "{junk}");
    }
    let (status, body) = fixture.post("{\"objects\": false, \"frames\": false}");
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("nothing to do"), "{body}");
    let (status, _) = fixture.post(&" ".repeat(5000));
    assert_eq!(status, 413);
}

#[test]
fn garbage_is_closed_and_the_next_client_is_served() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "NBDMAGICIHAVEOPT\r\n\r\n"] {
        let mut stream = StdStream::connect(fixture.socket()).expect("a listening socket");
        stream.write_all(garbage.as_bytes()).expect("room in the socket");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    let mut half = StdStream::connect(fixture.socket()).expect("a listening socket");
    half.write_all(b"POST /v1/compact HTTP/1.1\r\ncontent-le").expect("room in the socket");
    drop(half);
    client::stat(&fixture.socket()).expect("it still answers");
}

#[test]
fn silent_clients_are_evicted_for_a_request() {
    let eviction_grace = Duration::from_millis(100);
    let limits = ClientLimits {
        connections: 2,
        eviction_grace,
        header_timeout: Duration::from_secs(60),
        ..CLIENT_LIMITS
    };
    let fixture = Fixture::start(limits);
    let silent: Vec<_> =
        (0..8).map(|_| StdStream::connect(fixture.socket()).expect("room in the queue")).collect();
    let start = Instant::now();
    client::stat(&fixture.socket()).expect("it answers after evictions");
    // Eight silent clients, two slots: several grace times pass, but no header timeout.
    assert!(
        (Duration::from_millis(250)..Duration::from_secs(15)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    drop(silent);
}

/// Half send nothing, half announce a body that never comes.
#[test]
fn two_hundred_idle_clients_do_not_block_stat() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    let idle: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = StdStream::connect(fixture.socket()).expect("room in the queue");
            if number % 2 == 0 {
                let request = "POST /v1/compact HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n";
                stream.write_all(request.as_bytes()).expect("room in the socket");
            }
            stream
        })
        .collect();
    let start = Instant::now();
    client::stat(&fixture.socket()).expect("it answers");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(idle);
}

#[test]
fn simultaneous_clients_are_all_answered() {
    let limits = ClientLimits { connections: 2, ..CLIENT_LIMITS };
    let fixture = Fixture::start(limits);
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| client::stat(&fixture.socket()).expect("it answers"));
        }
    });
}

#[test]
fn metrics_are_in_the_prometheus_format() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    fixture.fill_and_thin();
    let (status, head, body) = fixture.raw("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains(&format!("\nmemzip_orig_bytes {}\n", PAGES / 2 * 4096)), "{body}");
    assert!(body.contains("\nmemzip_nbd_buffer_bytes 0\n"), "{body}");
}

#[test]
fn a_second_compaction_is_refused() {
    let (disk, state, folder) = Fixture::parts();
    let routes = Routes::new(Arc::clone(&state));
    let running = routes.hold_compaction();
    let plane = ControlPlane::with_limits(folder.path().join("control"), routes, CLIENT_LIMITS)
        .expect("it starts");
    let fixture = Fixture { disk, state, _plane: plane, folder };
    let (status, body) = fixture.post("");
    assert_eq!(status, 409, "{body}");
    let error = client::compact(&fixture.socket(), CompactRequest::default())
        .expect_err("refused")
        .to_string();
    assert!(error.contains("409") && error.contains("running"), "{error}");
    client::stat(&fixture.socket()).expect("stat works during a compaction");
    drop(running);
    client::compact(&fixture.socket(), CompactRequest::default())
        .expect("the permit is free again");
}

#[test]
fn background_compaction_reports_its_state() {
    let (disk, _, folder) = Fixture::parts();
    let maintenance = Maintenance::start(
        &disk,
        MaintenanceConfig { background: Some(50), ..MaintenanceConfig::default() },
    );
    let maintenance = maintenance.expect("half a CPU");
    let server = Server::bind(
        Listen::Unix(folder.path().join("nbd2")),
        Arc::clone(&disk) as _,
        ServerConfig::default(),
    );
    let state =
        Arc::new(ServerState::new(Arc::clone(&disk), maintenance, &server.expect("a free path")));
    let plane =
        ControlPlane::start(folder.path().join("control"), Arc::clone(&state)).expect("it starts");
    let fixture = Fixture { disk, state, _plane: plane, folder };
    fixture.fill_and_thin();
    let start = Instant::now();
    while fixture.state.stat().background.stats.polls < 3
        && start.elapsed() < Duration::from_secs(60)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let background = fixture.state.stat().background;
    assert!(background.stats.polls >= 3 && background.cpu_percent == 50, "{background:?}");
    assert_ne!(background.state, "off");
}

#[test]
fn the_socket_is_private_and_removed_at_the_end() {
    let fixture = Fixture::start(CLIENT_LIMITS);
    let path = fixture.socket();
    assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    let error = ControlPlane::start(path.clone(), Arc::clone(&fixture.state)).expect_err("taken");
    assert!(
        format!("{error:#}").contains("another server listens on") && path.exists(),
        "{error:#}"
    );
    drop(fixture._plane);
    assert!(!path.exists());

    drop(StdListener::bind(&path).expect("a socket without a server"));
    let plane = ControlPlane::start(path.clone(), Arc::clone(&fixture.state))
        .expect("it replaces a dead server's socket");
    client::stat(&path).expect("it answers");
    std::fs::remove_file(&path).expect("another program removes it");
    let successor =
        ControlPlane::start(path.clone(), Arc::clone(&fixture.state)).expect("the path is free");
    drop(plane);
    client::stat(&path).expect("an ending server removes only its own socket");
    drop(successor);

    std::fs::write(&path, "precious").expect("a file");
    let error =
        ControlPlane::start(path.clone(), Arc::clone(&fixture.state)).expect_err("not a socket");
    assert!(format!("{error:#}").contains("is not a socket"), "{error:#}");
    assert_eq!(std::fs::read(&path).expect("untouched"), b"precious");
    let long = fixture.folder.path().join("x".repeat(200));
    assert!(ControlPlane::start(long, Arc::clone(&fixture.state)).is_err());
}

/// The path is free or that of a dead server: exactly one of the planes that start together gets
/// it, and it answers.
#[test]
fn one_of_several_starting_planes_gets_the_socket() {
    let (_, state, folder) = Fixture::parts();
    let path = folder.path().join("control");
    for round in 0..50 {
        if round % 2 == 0 {
            drop(StdListener::bind(&path).expect("a socket without a server"));
        }
        let start = std::sync::Barrier::new(4);
        let planes: Vec<_> = std::thread::scope(|scope| {
            let begin = || {
                start.wait();
                ControlPlane::start(path.clone(), Arc::clone(&state))
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(
            planes.iter().filter(|plane| plane.is_ok()).count(),
            1,
            "round {round}: {planes:?}"
        );
        client::stat(&path).expect("the plane that got the socket answers");
    }
}

#[test]
fn another_user_is_refused_even_on_an_open_socket() {
    if sys::host::effective_uid() != 0 {
        println!("SKIPPED: only root can start a client as another user");
        return;
    }
    let fixture = Fixture::start(CLIENT_LIMITS);
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod")
    };
    open(fixture.folder.path(), 0o755);
    open(&fixture.socket(), 0o666);
    let script =
        "use IO::Socket::UNIX; $SIG{PIPE} = 'IGNORE'; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die 'connect';
        print $s \"GET /v1/stat HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n\"; $s->flush; print 'got:', <$s>;";
    let ask = |user| {
        let mut perl = Command::new("perl");
        let output = perl
            .args(["-e", script])
            .arg(fixture.socket())
            .uid(user)
            .gid(user)
            .output()
            .expect("perl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(ask(0).contains("200 OK"), "the script does not work as root");
    assert_eq!(ask(65_534).trim_end(), "got:", "another user got an answer");
}
