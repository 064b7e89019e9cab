//! The command under test: its verbs with a scrubbed environment, and their results.

use crate::process::{Ended, Process, run as run_process};
use crate::report::Report;
use crate::wait::{SOON, wait_until};
use crate::{artifacts, proc};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Takes away what would change the behaviour of the library or the command.
pub fn scrub(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PERQUERY_") || text == "LD_PRELOAD" {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C.UTF-8")
}

/// `perquery` with these arguments, not started yet.
pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Command {
    let mut command = Command::new(artifacts::perquery());
    scrub(&mut command).args(arguments);
    command
}

/// Runs `perquery` to its end.
#[track_caller]
pub fn perquery<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Ended {
    run_process(&mut command(arguments), Duration::from_secs(120))
}

/// `perquery run --exact -o RECORDING -- …`, to which the command's own words are to be added.
pub fn run_command(recording: &Path) -> Command {
    let mut run = command(["run", "--exact", "-o"]);
    run.arg(recording).arg("--");
    run
}

/// The report of a recording, by these keys.
#[track_caller]
pub fn report(recording: &Path, by: &str) -> Report {
    report_with(recording, &["--by", by])
}

/// The report of a recording with any options. All rows are asked for: the default folds the many small ones.
#[track_caller]
pub fn report_with(recording: &Path, options: &[&str]) -> Report {
    let mut words: Vec<&OsStr> = vec![OsStr::new("report"), OsStr::new("-i"), recording.as_os_str()];
    words.extend(["--format", "json"].map(OsStr::new));
    words.extend(options.iter().map(OsStr::new));
    if !options.contains(&"--top") {
        words.extend(["--top", "1000000"].map(OsStr::new));
    }
    let done = perquery(words);
    Report::parse(&done.expect_success().stdout)
}

/// `perquery record` that runs, with capture on.
pub struct Recording {
    process: Process,
    /// The file it writes.
    pub path: PathBuf,
    server: u32,
}

impl Recording {
    /// Starts recording a server and waits until capture is on. All counters of every execution are read: what the tests
    /// compare with must not be an estimate.
    #[track_caller]
    pub fn start(server: u32, path: PathBuf) -> Self {
        Self::start_with(server, path, &["--exact"])
    }

    /// The same with these options.
    #[track_caller]
    pub fn start_with(server: u32, path: PathBuf, options: &[&str]) -> Self {
        let mut record = command(["record", "-p", &server.to_string(), "-o"]);
        record.arg(&path).args(options);
        let mut process = Process::start(&mut record);
        wait_until("capture to be switched on", SOON, || {
            assert!(process.is_running(), "perquery record ended at once: {}", process.stderr());
            // Not of a collector before us.
            let line = list_line(server);
            line.split_whitespace().any(|word| word == "on")
                && line.split_whitespace().any(|word| word == process.pid().to_string())
        });
        Recording { process, path, server }
    }

    /// The collector's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The server it records.
    pub fn server(&self) -> u32 {
        self.server
    }

    /// The collector itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// ^C, as a user ends a recording; answers the report by these keys.
    #[track_caller]
    pub fn stop(self, by: &str) -> Report {
        let path = self.path.clone();
        self.end().expect_success();
        report(&path, by)
    }

    /// ^C and how it ended. A client has its answer a moment before the server is done with the query, and a query
    /// that is not done belongs to nobody's recording: so the server is given the time to come to rest.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let asked = Instant::now();
        let mut rests = 0;
        while rests < 3 && asked.elapsed() < Duration::from_secs(2) {
            rests = if proc::is_idle(self.server) { rests + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(2));
        }
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(60))
    }

    /// Kills the collector, and waits for its end.
    #[track_caller]
    pub fn kill(mut self) -> Ended {
        self.process.signal(Signal::KILL);
        self.process.wait(SOON)
    }

    /// Waits for its end without asking for it (the server dies, or `-d` runs out).
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        self.process.wait(Duration::from_secs(60))
    }
}

/// The line of `perquery list` about this server; empty when there is none.
#[track_caller]
pub fn list_line(server: u32) -> String {
    let done = perquery(["list"]);
    let wanted = server.to_string();
    let line =
        done.expect_success().stdout.lines().find(|line| line.split_whitespace().any(|word| word == wanted));
    line.unwrap_or_default().to_owned()
}

/// Does `perquery list` say that capture is on in this server?
#[track_caller]
pub fn capture_is_on(server: u32) -> bool {
    let line = list_line(server);
    line.split_whitespace().any(|word| word == "on")
}
