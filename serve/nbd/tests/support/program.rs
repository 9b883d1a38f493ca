//! Real clients, started for real. A missing one skips the test loudly.

use std::io::{self, Write};
use std::process::{Command, Output};

/// Whether the program is installed; prints why the test is skipped when it is not.
pub fn installed(test: &str, program: &str) -> bool {
    let here = std::env::split_paths(&search_path()).any(|folder| folder.join(program).is_file());
    if !here {
        skip(test, program);
    }
    here
}

/// Says loudly that a test is skipped. Written past the test harness, which would swallow what a passing test prints.
pub fn skip(test: &str, program: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {program} is not installed");
}

/// Runs the program and returns what it printed; a failure ends the test with everything it said.
pub fn run(program: &str, args: &[&str]) -> String {
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

/// Runs the program, whatever comes of it; it is ended after a minute.
pub fn attempt(program: &str, args: &[&str]) -> Output {
    command(program).args(args).output().expect("the program starts")
}

/// The program, to be given arguments; it is ended after a minute.
pub fn command(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).env("PATH", search_path());
    command
}

/// The system's folders first: nbdsh needs the Python its module was installed for.
fn search_path() -> String {
    format!("/usr/sbin:/usr/bin:/sbin:/bin:{}", std::env::var("PATH").unwrap_or_default())
}
