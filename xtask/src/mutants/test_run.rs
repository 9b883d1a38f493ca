//! One test, built and run in the copy.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::copy::Copy;
use super::patch::{Kind, Test};
use crate::model;

/// Time limit of a test. Each test of a header takes seconds without a mutant.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(300);

/// A test program, ready to run.
pub(crate) struct TestRun<'a> {
    test: &'a Test,
    program: PathBuf,
    folder: PathBuf,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) enum TestOutcome {
    /// The test passed.
    Passed,
    /// The test failed.
    Failed {
        /// All its output.
        said: String,
    },
    /// The test did not end.
    TimedOut,
    /// No test of that name ran.
    NoSuchTest,
}

impl<'a> TestRun<'a> {
    /// Builds the test.
    pub(crate) fn of(copy: &Copy, test: &'a Test) -> Result<Self> {
        let output =
            build(copy, test).stderr(Stdio::piped()).output().context("cannot start cargo")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let errors: Vec<&str> = said
                .lines()
                .filter(|line| line.starts_with("error") || line.contains("-->"))
                .collect();
            bail!("does not compile: {}", errors.join("\n"));
        }
        let (program, manifest) =
            executable(&output.stdout, test).with_context(|| format!("{test} was not built"))?;
        let folder =
            manifest.parent().map(Path::to_path_buf).context("the manifest has no folder")?;
        Ok(TestRun { test, program, folder })
    }

    /// Runs the test, for at most `timeout`.
    pub(crate) fn run(&self, timeout: Duration) -> Result<TestOutcome> {
        let mut command = Command::new(&self.program);
        command
            .args(["--exact", &self.test.name, "--show-output", "--test-threads=1"])
            .current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.test.kind == Kind::Loom {
            command.env("LOOM_MAX_PREEMPTIONS", model::LOOM_PREEMPTIONS.to_string());
            command.env("LOOM_MAX_BRANCHES", model::LOOM_BRANCHES);
        }
        let mut child = command.spawn().context("cannot start the test")?;
        let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let status = wait(&mut child, timeout)?;
        let read = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
        let said = format!("{}\n{}", read(out), read(err));
        Ok(status.map_or(TestOutcome::TimedOut, |status| {
            outcome(&self.test.name, status.success(), said)
        }))
    }
}

fn outcome(name: &str, succeeded: bool, said: String) -> TestOutcome {
    // libtest prints `test NAME ... ` before a test runs. The rest of the line is missing if the
    // test aborts the process.
    let ran = said
        .lines()
        .any(|line| line.strip_prefix("test ").is_some_and(|rest| rest.starts_with(name)));
    match (ran, succeeded) {
        (false, _) => TestOutcome::NoSuchTest,
        (true, true) => TestOutcome::Passed,
        (true, false) => TestOutcome::Failed { said },
    }
}

fn build(copy: &Copy, test: &Test) -> Command {
    let mut cargo = shell::cargo("test");
    cargo.args(["--no-run", "--message-format=json", "-p", &test.package]).current_dir(copy.root());
    match &test.target {
        Some(target) => cargo.args(["--test", target]),
        None => cargo.arg("--lib"),
    };
    if let Some(cfg) = test.kind.cfg() {
        cargo.arg("--release").env("RUSTFLAGS", model::flags(cfg));
        // Each mutant is built once and run once, so optimisation would cost more than it saves.
        cargo.envs([
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ]);
    }
    cargo.env("CARGO_TARGET_DIR", copy.target(test.kind.cfg().unwrap_or("test")));
    cargo
}

/// Returns the test program and its package's manifest from cargo's messages.
fn executable(messages: &[u8], test: &Test) -> Option<(PathBuf, PathBuf)> {
    let wanted = test.target.as_deref();
    serde_json::Deserializer::from_slice(messages)
        .into_iter::<serde_json::Value>()
        .flatten()
        .find_map(|message| {
            let program = message["executable"].as_str()?;
            let target = &message["target"];
            let is_wanted = wanted.is_none_or(|wanted| target["name"] == wanted);
            let is_test = message["profile"]["test"] == true;
            (is_wanted && is_test).then(|| {
                (program.into(), message["manifest_path"].as_str().unwrap_or_default().into())
            })
        })
}

fn reader<R: Read + Send + 'static>(pipe: Option<R>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A killed test leaves the output so far.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the process; kills it after `timeout` and returns `None`.
fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aborted_test_failed_an_unknown_did_not_run() {
        let said = |text: &str| text.to_owned();
        assert!(matches!(
            outcome("a::b", true, said("running 1 test\ntest a::b ... ok")),
            TestOutcome::Passed
        ));
        assert!(matches!(
            outcome("a::b", false, said("test a::b ... FAILED")),
            TestOutcome::Failed { .. }
        ));
        assert!(matches!(
            outcome("a::b", false, said("test a::b ... ")),
            TestOutcome::Failed { .. }
        ));
        assert!(matches!(outcome("a::b", true, said("running 0 tests")), TestOutcome::NoSuchTest));
    }

    #[test]
    fn the_program_of_the_wanted_target_is_found() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"other"},"profile":{"test":true},"executable":"/x","manifest_path":"/p/Cargo.toml"}
{"reason":"compiler-artifact","target":{"name":"races"},"profile":{"test":true},"executable":"/y","manifest_path":"/p/Cargo.toml"}
{"reason":"build-finished","success":true}"#;
        let test = Test {
            kind: Kind::Plain,
            package: "p".into(),
            target: Some("races".into()),
            name: "t".into(),
        };
        assert_eq!(executable(messages, &test), Some(("/y".into(), "/p/Cargo.toml".into())));
        assert_eq!(executable(b"", &test), None);
    }
}
