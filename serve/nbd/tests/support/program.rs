//! Real client programs. A test whose program is missing is skipped with a message.

use std::io::{self, Write};
use std::process::{Command, Output};

/// Returns whether the program is installed; prints that the test is skipped if it is not.
pub(crate) fn installed(test: &str, program: &str) -> bool {
    let here = std::env::split_paths(&search_path()).any(|folder| folder.join(program).is_file());
    if !here {
        skip(test, program);
    }
    here
}

/// Prints that a test is skipped. Writes to standard error directly, because the test harness
/// captures what a passing test prints.
pub(crate) fn skip(test: &str, program: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {program} is not installed");
}

/// Runs the program and returns its standard output. Panics with all of its output if it fails.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = attempt(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the program and returns its output and status. The program is killed after a minute.
pub(crate) fn attempt(program: &str, args: &[&str]) -> Output {
    command(program).args(args).output().expect("the program starts")
}

/// Returns the program as a command without arguments. It is killed after a minute.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).env("PATH", search_path());
    command
}

/// Returns a `PATH` with the system's directories first: nbdsh needs the Python for which its
/// module was installed.
fn search_path() -> String {
    format!("/usr/sbin:/usr/bin:/sbin:/bin:{}", std::env::var("PATH").unwrap_or_default())
}
