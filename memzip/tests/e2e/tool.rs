//! Starts clients: finds them as a shell would, limits their time, and shows their output when they
//! fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Time limit of a client in seconds. It turns a hanging server into a failed test.
const SECONDS: &str = "240";

/// Skips the test with a message unless all of these programs are installed.
macro_rules! need {
    ($($program:literal),+) => {
        $(if $crate::tool::find($program).is_none() {
            println!("SKIPPED: {} is not installed; `cargo xtask setup` names the package", $program);
            return;
        })+
    };
}
pub(crate) use need;

/// Finds a program on PATH or in the folders of system programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Returns a command that is killed if it takes too long.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    let found = program.to_str().and_then(find).unwrap_or_else(|| program.to_path_buf());
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", SECONDS]).arg(found);
    command
}

/// Returns a command for nbdsh. It uses Debian's Python, for which its module is built, whatever
/// Python is first on PATH.
pub(crate) fn nbdsh() -> Command {
    let mut command = command("nbdsh");
    command.env("PATH", "/usr/bin:/bin");
    command
}

/// Runs a client and returns its status and output.
pub(crate) fn finish(command: &mut Command) -> Output {
    command.output().expect("coreutils' timeout can be started")
}

/// Runs a client that must succeed and returns its standard output.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = finish(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}",
        output.status,
        text(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a client that must fail by itself, without a timeout, and returns its output.
pub(crate) fn fail(command: &mut Command) -> String {
    let output = finish(command);
    assert!(!output.status.success(), "{command:?} should have failed:\n{}", text(&output));
    assert!(
        !matches!(output.status.code(), Some(124 | 137)),
        "{command:?} hung:\n{}",
        text(&output)
    );
    text(&output)
}

/// Returns both output streams of a client.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
