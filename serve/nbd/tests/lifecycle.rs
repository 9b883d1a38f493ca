//! The socket file, access control and the end of a server.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "each test binary uses a part of the shared support")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nbd::{Listen, NbdError, RefusalLog, Server, ServerConfig, UnixAccess};

use support::client::{Client, head};
use support::disk::{Disk, Slow};
use support::program::{command, installed, skip};
use support::served::{Folder, Served, eventually};

const MIB: u64 = 1 << 20;

fn bind(path: &std::path::Path) -> Result<Server, NbdError> {
    Server::bind(Listen::Unix(path.into()), Arc::new(Disk::new(MIB)), ServerConfig::default())
}

#[test]
fn the_socket_is_private_and_removed_at_the_end() {
    let mut served = Served::unix(Arc::new(Disk::new(MIB)));
    let mode = fs::metadata(served.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    served.stop();
    assert!(!served.path().exists());
}

#[test]
fn a_server_that_never_ran_removes_its_socket() {
    let folder = Folder::new();
    let path = folder.file("s");
    drop(bind(&path).unwrap());
    assert!(!path.exists());
}

#[test]
fn a_socket_left_by_a_dead_server_is_replaced() {
    let folder = Folder::new();
    let path = folder.file("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    bind(&path).expect("no server listens there");
}

#[test]
fn a_socket_with_a_listener_is_not_replaced() {
    let served = Served::unix(Arc::new(Disk::new(MIB)));
    let error = bind(served.path()).err();
    assert!(matches!(error, Some(NbdError::InUse { .. })), "{error:?}");
    Client::simple(served.path());
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let folder = Folder::new();
    let path = folder.file("precious");
    fs::write(&path, "data").unwrap();
    assert!(matches!(bind(&path), Err(NbdError::NotASocket { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"data");
}

#[test]
fn another_servers_socket_is_not_removed() {
    let folder = Folder::new();
    let path = folder.file("s");
    let server = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
}

#[test]
fn paths_that_cannot_be_sockets_are_errors() {
    let folder = Folder::new();
    assert!(matches!(bind(&folder.file("missing/s")), Err(NbdError::Io { .. })));
    assert!(matches!(bind(&folder.file(&"x".repeat(200))), Err(NbdError::Io { .. })));
}

#[test]
fn a_port_in_use_and_overlong_names_are_errors() {
    let served = Served::tcp(Arc::new(Disk::new(MIB)));
    let address = served.address();
    let taken =
        Server::bind(Listen::Tcp(address), Arc::new(Disk::new(MIB)), ServerConfig::default());
    assert!(matches!(taken, Err(NbdError::Io { .. })));
    let config = ServerConfig { export_name: "x".repeat(4097), ..ServerConfig::default() };
    let long =
        Server::bind(Listen::Tcp("127.0.0.1:0".parse().unwrap()), Arc::new(Disk::new(MIB)), config);
    assert!(matches!(long, Err(NbdError::TextTooLong { len: 4097, .. })));
}

#[test]
fn a_shutdown_finishes_received_requests() {
    let slow = Arc::new(Slow(Disk::new(MIB), Duration::from_millis(5)));
    let mut served = Served::unix(slow.clone());
    let mut clients = served.both();
    for (number, client) in clients.iter_mut().enumerate() {
        for cookie in 0..40_u64 {
            client.write(cookie, (number as u64 * 40 + cookie) * 4096, &[7; 4096]);
        }
    }
    served.stop();
    for client in &mut clients {
        for cookie in 0..40 {
            assert_eq!(client.errno(cookie), 0);
        }
        assert!(client.is_closed());
    }
    assert!(slow.0.content()[..80 * 4096].iter().all(|&byte| byte == 7));
}

#[test]
fn half_a_write_does_not_delay_a_shutdown() {
    let mut served = Served::unix(Arc::new(Disk::new(MIB)));
    let mut client = Client::simple(served.path());
    client.send(&head(0, 1, 1, 0, 4096));
    client.send(&[7; 100]);
    let mut negotiating = Client::greet(served.path(), 3);
    negotiating.send(b"IHAVE");
    let start = Instant::now();
    served.stop();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(client.is_closed() && negotiating.is_closed());
}

#[test]
fn unread_replies_delay_a_shutdown_by_its_grace() {
    let config =
        ServerConfig { shutdown_grace: Duration::from_millis(300), ..ServerConfig::default() };
    let mut served = Served::with(Arc::new(Disk::new(4 * MIB)), config);
    let mut unreading = Client::simple(served.path());
    for cookie in 0..16 {
        unreading.request(0, 0, cookie, 0, 1 << 20);
    }
    thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    served.stop();
    assert!(
        (Duration::from_millis(250)..Duration::from_secs(3)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(served.handle.stats().connections_current, 0);
}

#[test]
fn shutdown_over_tcp_ends_idle_connections() {
    let mut served = Served::tcp(Arc::new(Disk::new(MIB)));
    let address = served.address();
    let idle = std::net::TcpStream::connect(address).unwrap();
    thread::sleep(Duration::from_millis(50));
    served.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
    drop(idle);
}

/// Returns what a client of this user, group and supplementary group receives, or `None` if the
/// system does not let it connect. Needs root.
fn received_by(user: u32, group: u32, other_group: u32, path: &std::path::Path) -> Option<String> {
    let script = "use IO::Socket::UNIX; \
                  my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 7; \
                  $s->read(my $b, 8); print $b;";
    let ids =
        [format!("--reuid={user}"), format!("--regid={group}"), format!("--groups={other_group}")];
    let mut setpriv = command("setpriv");
    let output =
        setpriv.args(ids).args(["perl", "-e", script]).arg(path).output().expect("setpriv starts");
    assert!([Some(0), Some(7)].contains(&output.status.code()), "{output:?}");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns whether tests with other users can run here.
fn has_other_users(name: &str) -> bool {
    if !installed(name, "setpriv") || !installed(name, "perl") {
        return false;
    }
    if !rustix::process::geteuid().is_root() {
        skip(name, "a second user (only root has one)");
        return false;
    }
    true
}

/// Serves a disk. Returns also the lines of the log.
fn logged(config: ServerConfig) -> (Served, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&lines);
    let log = RefusalLog::new(move |line| written.lock().unwrap().push(line.to_owned()));
    (Served::logging(Arc::new(Disk::new(MIB)), config, log), lines)
}

fn serving(access: UnixAccess) -> (Served, Arc<Mutex<Vec<String>>>) {
    logged(ServerConfig { access, ..ServerConfig::default() })
}

#[test]
fn another_user_is_refused_and_logged() {
    if !has_other_users("another_user_is_refused_and_logged") {
        return;
    }
    let (served, lines) = serving(UnixAccess { mode: Some(0o666), ..UnixAccess::default() });
    for _ in 0..3 {
        assert_eq!(received_by(65534, 65534, 65534, served.path()).as_deref(), Some(""));
    }
    eventually("counting", || served.handle.stats().connections_refused == 3);
    let logged = lines.lock().unwrap().clone();
    assert!(logged[0].contains("user 65534") && logged.len() <= 3, "{logged:?}");
    fs::set_permissions(served.path(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(received_by(65534, 65534, 65534, served.path()), None);
    assert_eq!(served.handle.stats().connections_refused, 3);
}

#[test]
fn a_configured_user_may_connect() {
    if !has_other_users("a_configured_user_may_connect") {
        return;
    }
    let (served, lines) = serving(UnixAccess { users: vec![65534, 4242], ..UnixAccess::default() });
    assert_eq!(received_by(65534, 65534, 65534, served.path()).as_deref(), Some("NBDMAGIC"));
    assert_eq!(received_by(4242, 65534, 65534, served.path()).as_deref(), Some("NBDMAGIC"));
    assert_eq!(received_by(4243, 65534, 65534, served.path()).as_deref(), Some(""));
    // The client sees the end of the connection before the line is logged.
    eventually("the line", || lines.lock().unwrap().len() == 1);
}

#[test]
fn members_of_the_group_may_connect() {
    if !has_other_users("members_of_the_group_may_connect") {
        return;
    }
    let (served, _) = serving(UnixAccess { group: Some(4242), ..UnixAccess::default() });
    assert_eq!(received_by(65534, 4242, 65534, served.path()).as_deref(), Some("NBDMAGIC"));
    assert_eq!(
        received_by(65534, 65534, 4242, served.path()).as_deref(),
        Some("NBDMAGIC"),
        "a supplementary group"
    );
    assert_eq!(received_by(65534, 65534, 65534, served.path()), None, "the file keeps others out");
}

#[test]
fn a_client_over_the_limit_is_logged() {
    let (served, lines) = logged(ServerConfig { max_connections: 1, ..ServerConfig::default() });
    let _active = Client::simple(served.path());
    assert_eq!(Client::greet(served.path(), 3).ask(7, &[0; 6]).last().unwrap().0, (1 << 31) + 2);
    assert_eq!(*lines.lock().unwrap(), ["refused a client: all 1 connections are taken"]);
}

#[test]
fn a_device_that_panics_ends_one_connection_only() {
    let mut served = Served::unix(Arc::new(Slow(Disk::new(MIB), Duration::MAX)));
    let mut client = Client::simple(served.path());
    client.write(1, 0, &[1; 10]);
    assert!(client.is_closed());
    let mut other = Client::simple(served.path());
    assert_eq!(other.error_of(0, 5, 0, 1), 0);
    assert_eq!(served.handle.stats().connections_current, 1);
    served.stop();
}

#[test]
fn shutdown_may_come_twice_and_before_run() {
    let folder = Folder::new();
    let server = bind(&folder.file("s")).unwrap();
    let handle = server.handle();
    handle.shutdown();
    handle.shutdown();
    server.run().unwrap();
}
