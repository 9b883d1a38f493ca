//! A program that does not outlive the experiment: stopped when its owner is dropped, and when this program is killed.

use crate::shell;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A running program.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program in a folder, its standard input and output piped.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        folder: &Path,
    ) -> Result<Self> {
        let mut command = match shell::find_program("setpriv") {
            // The kernel stops it when we die by a signal, in which case nothing is dropped.
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

    /// What the program reads. Only once.
    pub fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("it was piped, and is asked for once")
    }

    /// The lines the program writes, until it ends. Only once.
    pub fn lines(&mut self) -> Receiver<String> {
        let output =
            BufReader::new(self.child.stdout.take().expect("it was piped, and is asked for once"));
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                // Nobody listens any more: read on, so that the program does not stop at a full pipe.
                let _ = say.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
