//! Starting clients: found like a shell would, bounded in time, and shown in full when they fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// No client needs longer than this for what the tests ask; a server that hangs becomes a failed test and not a hung one.
const SECONDS: &str = "240";

/// Leaves the test with a loud skip unless all of these programs are installed.
macro_rules! need {
    ($($program:literal),+) => {
        $(if $crate::tool::find($program).is_none() {
            println!("SKIPPED: {} is not installed; `cargo xtask setup` names the package", $program);
            return;
        })+
    };
}
pub(crate) use need;

/// Finds a program on PATH or in the administrator's folders.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A command that is killed if it takes too long.
pub fn command(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    let found = program.to_str().and_then(find).unwrap_or_else(|| program.to_path_buf());
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", SECONDS]).arg(found);
    command
}

/// libnbd's shell, run by the Python that Debian builds its module for, whatever Python comes first on PATH.
pub fn nbdsh() -> Command {
    let mut command = command("nbdsh");
    command.env("PATH", "/usr/bin:/bin");
    command
}

/// Runs a client to its end, whatever that is.
pub fn finish(command: &mut Command) -> Output {
    command.output().expect("coreutils' timeout can be started")
}

/// Runs a client that has to succeed and returns what it printed.
pub fn succeed(command: &mut Command) -> String {
    let output = finish(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}",
        output.status,
        text(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a client that has to fail by itself, not by running out of time, and returns what it printed.
pub fn fail(command: &mut Command) -> String {
    let output = finish(command);
    assert!(!output.status.success(), "{command:?} should have failed:\n{}", text(&output));
    assert!(
        !matches!(output.status.code(), Some(124 | 137)),
        "{command:?} hung:\n{}",
        text(&output)
    );
    text(&output)
}

/// Both streams of a client.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
