//! `perquery record` with the options of a setting, and bpftrace: both on other CPUs than the servers.

use harness::cpus::Cpus;
use harness::process::{Ended, Process};
use harness::wait::{SOON, wait_until};
use harness::{artifacts, perquery};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A collector at work.
pub struct Recorder {
    process: Process,
    /// What it writes.
    pub path: PathBuf,
}

impl Recorder {
    /// Starts recording with the first of these option lists that the command takes; else says what it answered.
    pub fn start(server: u32, variants: &[&[&str]], path: PathBuf, cpus: &Cpus) -> Result<Self, String> {
        let mut refusal = String::new();
        for options in variants {
            let mut command = Command::new("taskset");
            command.args(["-c", &cpus.others]).arg(artifacts::perquery());
            command.args(["record", "-p", &server.to_string(), "-o"]).arg(&path).args(*options);
            let mut process = Process::start(perquery::scrub(&mut command));
            let mut ended = false;
            wait_until("capture to be switched on", SOON, || {
                ended = !process.is_running();
                let line = perquery::list_line(server);
                let mut words = line.split_whitespace();
                ended || words.any(|word| word == "on") && line.contains(&process.pid().to_string())
            });
            if !ended {
                return Ok(Recorder { process, path });
            }
            let said = process.stderr();
            refusal = format!(
                "perquery record {}: {}",
                options.join(" "),
                said.lines().next().unwrap_or("ended at once")
            );
        }
        Err(refusal)
    }

    /// CPU time of the collector so far.
    pub fn cpu_ns(&self) -> u64 {
        cpu_ns(self.process.pid())
    }

    /// ^C, its end, and the report's completeness: executions and dropped.
    pub fn stop(mut self) -> (u64, u64) {
        self.end();
        let report = perquery::report(&self.path, "digest");
        (report.completeness("executions"), report.completeness("dropped"))
    }

    /// ^C and its end.
    pub fn end(&mut self) -> Ended {
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(120))
    }
}

/// CPU time that all threads of a process have used.
pub fn cpu_ns(pid: u32) -> u64 {
    let of = |tid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    };
    harness::proc::threads(pid).into_iter().map(of).sum()
}

/// Runs a bpftrace program on a process until dropped; it has seen `probe` when this returns.
pub fn bpftrace(
    pid: u32,
    program: &str,
    executable: &Path,
    cpus: &Cpus,
    probe: impl FnOnce(),
) -> Result<Process, String> {
    if !harness::has_program("bpftrace") {
        return Err("bpftrace is not installed".to_owned());
    }
    let program = program.replace("{}", &executable.display().to_string());
    // Where nobody has mounted tracefs: for bpftrace alone, in a mount namespace of its own.
    let mount = "[ -e /sys/kernel/tracing/uprobe_events ] || mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"";
    let start = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mount, "sh", "taskset", "-c", &cpus.others]);
        command.args(["bpftrace", "-p", &pid.to_string(), "-e", &program]);
        let mut process = Process::start(perquery::scrub(&mut command));
        let mut ended = false;
        wait_until("bpftrace to attach", SOON, || {
            ended = !process.is_running();
            ended || process.stdout().contains("attached")
        });
        if ended {
            let said = process.stderr() + &process.stdout();
            return Err(format!("bpftrace: {}", said.lines().last().unwrap_or("ended at once")));
        }
        Ok(process)
    };
    // It attaches "successfully" where it can't, too; what it has seen is printed at its end.
    let mut first = start()?;
    probe();
    first.signal(Signal::INT);
    let ended = first.wait(SOON);
    if !ended.stdout.contains("|@") {
        let why = ended.stderr.lines().last().unwrap_or("no reason given").to_owned();
        return Err(format!("bpftrace saw none of its probes: {why}"));
    }
    start()
}
