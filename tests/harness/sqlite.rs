//! SQLite as two programs use it: its own shell, and Python's module.

use crate::perquery;
use crate::process::{Ended, Process};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Debian's interpreter. Another python3 earlier in the PATH may have SQLite built in.
pub const PYTHON: &str = "/usr/bin/python3";

/// Runs the shell over a script, under `perquery run` into a recording.
#[track_caller]
pub fn record_shell(recording: &Path, database: &Path, script: &Path) -> Ended {
    let mut command = perquery::run_command(recording);
    command.arg("sqlite3").arg(database).stdin(File::open(script).expect("the script exists"));
    Process::start_with_stdin(&mut command).wait(Duration::from_secs(120))
}

/// Runs a Python program under `perquery run` into a recording.
#[track_caller]
pub fn record_python(recording: &Path, program: &str) -> Ended {
    let mut command: Command = perquery::run_command(recording);
    command.args([PYTHON, "-c", program]);
    Process::start(&mut command).wait(Duration::from_secs(120))
}
