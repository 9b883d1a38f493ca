//! A child process that is killed when its owner is dropped and when this program is killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};

/// A running program.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program in a folder, with standard input and output piped.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        folder: &Path,
    ) -> Result<Self> {
        let mut command = match shell::find_program("setpriv") {
            // A signal may kill this program without dropping anything; the kernel then kills the
            // child.
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        eprintln!("$ {}", shell::line(&command));
        let child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Returns the program's standard input.
    ///
    /// # Panics
    /// When called twice.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("`input` is called once")
    }

    /// Returns the lines of the program's standard output until it ends.
    ///
    /// # Panics
    /// When called twice.
    pub(crate) fn lines(&mut self) -> Receiver<String> {
        let output = BufReader::new(self.child.stdout.take().expect("`lines` is called once"));
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                // After the receiver is dropped, keep reading, so that the program does not block
                // on a full pipe.
                let _ = say.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors are ignored: a program that has already exited is the desired state.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
