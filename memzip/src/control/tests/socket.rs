//! The socket of the control plane: its file, the users it serves, and planes that start together.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::fixture::LIMIT;
use super::*;

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
    drop(fixture.plane);
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
    let (_, state, folder) = Fixture::parts(Some(LIMIT));
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
