//! A process that a test started: its outputs in files, a deadline for its end, killed with its group on drop.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How a process ended and what it said.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its wait status.
    pub status: ExitStatus,
    /// Everything it wrote to its standard output.
    pub stdout: String,
    /// Everything it wrote to its standard error.
    pub stderr: String,
}

impl Ended {
    /// The exit code, or 128 + the signal that ended it, as a shell says it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Panics with both outputs unless the process ended with 0.
    #[track_caller]
    pub fn expect_success(&self) -> &Self {
        assert!(self.status.success(), "{}", self.describe());
        self
    }

    /// Both outputs and the status, for a failing test.
    pub fn describe(&self) -> String {
        format!("ended with {}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

/// A process that runs.
pub struct Process {
    child: Child,
    outputs: TempDir,
    label: String,
}

impl Process {
    /// Starts a command in a process group of its own, with no standard input unless the command set one before by
    /// [`Command::stdin`] and `keep_stdin` says so.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        Self::start_with_stdin(command)
    }

    /// Starts a command whose standard input the caller has set.
    #[track_caller]
    pub fn start_with_stdin(command: &mut Command) -> Self {
        let outputs = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| File::create(outputs.path().join(name)).expect("own directory");
        command.stdout(file("stdout")).stderr(file("stderr")).process_group(0);
        let label = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|e| panic!("{label} does not start: {e}"));
        Process { child, outputs, label }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, name: &str) -> String {
        let path: PathBuf = self.outputs.path().join(name);
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Does it still run?
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        signal_pid(self.pid(), signal);
    }

    /// Waits for its end; kills it and fails the test when the deadline passes.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> Ended {
        let started = std::time::Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("own child") {
                break status;
            }
            if started.elapsed() > deadline {
                let said = format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr());
                panic!("{} did not end within {deadline:?}\n{said}", self.label);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Ended { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// SIGTERM, then its end.
    #[track_caller]
    pub fn terminate(&mut self) -> Ended {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(60))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that is not our child; one that is gone is no error.
pub fn signal_pid(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// Runs a command to its end with a deadline.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Ended {
    Process::start(command).wait(deadline)
}

/// Makes a command run as another user. Only root can; a [`None`] changes nothing.
pub fn as_user(command: &mut Command, user: Option<crate::scratch::User>) -> &mut Command {
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
    command
}
