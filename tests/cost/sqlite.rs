//! Applications with SQLite in them, side by side, one per setting; each times its own statements.

use crate::options::Options;
use crate::recorder::Recorder;
use crate::rounds::{Burst, Side, Workload};
use crate::servers::setting_names;
use crate::settings::{BASE, Perquery, SETTINGS};
use harness::cpus::{self, Cpus};
use harness::{artifacts, perquery, victim};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// The statements.
pub const WORKLOADS: [Workload; 4] = [
    Workload { name: "point lookup by id in memory, prepared", weight: 1 },
    // A read transaction takes and gives back its lock on the file each time, as in most applications.
    Workload { name: "point lookup by id in a file, prepared", weight: 1 },
    Workload { name: "point lookup by key in memory, prepared", weight: 1 },
    Workload { name: "1000-row scan", weight: 20 },
];
const VERBS: [&str; 4] = ["lookup", "file", "key", "scan"];

/// What the applications need.
pub fn unavailable() -> Option<String> {
    let missing = ["/usr/include/sqlite3.h", "gcc"].into_iter().find(|p| !harness::has_program(p));
    missing.map(|p| format!("{p} is not installed"))
}

/// An application that waits for work.
struct Application {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Application {
    fn start(loaded: bool, database: &Path) -> Self {
        let program = victim::compile("sqlite_cost.c", &["-O2", "-lsqlite3"]);
        let mut command = Command::new(&program);
        perquery::scrub(&mut command).arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        if loaded {
            command.env("LD_PRELOAD", artifacts::library()).env("PERQUERY_EXE", "sqlite_cost");
        }
        let mut child = command.spawn().expect("it was compiled just now");
        let orders = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut application = Application { child, orders, answers };
        assert_eq!(application.line(), "ready");
        application
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a pipe");
        assert!(!line.is_empty(), "sqlite_cost ended");
        line.trim_end().to_owned()
    }
}

impl Burst for Application {
    fn burst(&mut self, workload: usize, count: usize) -> Vec<f64> {
        let verb = VERBS[workload];
        // The first tenth finds the caches as the previous process left them.
        let before = count / 10 + 1;
        let mut times = Vec::with_capacity(count);
        writeln!(self.orders, "{verb} {}", before + count).expect("it waits");
        for number in 0..before + count {
            let line = self.line();
            if number >= before {
                times.push(line.parse().expect("a number"));
            }
        }
        times
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Applications and their collectors.
pub struct Park {
    /// One per setting.
    pub sides: Vec<Side>,
    _recorders: Vec<Recorder>,
    files: TempDir,
}

impl Park {
    /// Starts what was asked for.
    pub fn start(options: &Options, cpus: &Cpus, skipped: &mut Vec<String>) -> Self {
        let files = harness::scratch::directory("cost");
        let mut park = Park { sides: Vec::new(), _recorders: Vec::new(), files };
        let names = setting_names();
        for setting in SETTINGS.iter().filter(|s| s.name == BASE || options.wants(s.name, &names)) {
            if let Err(why) = park.admit(setting.name, setting.perquery, options, cpus) {
                let line = format!("skipped: sqlite, {}: {why}", setting.name);
                eprintln!("{line}");
                skipped.push(line);
            }
        }
        park
    }

    fn admit(&mut self, name: &str, what: Perquery, options: &Options, cpus: &Cpus) -> Result<(), String> {
        let database = self.files.path().join(format!("{}.db", self.sides.len()));
        let mut application = Application::start(what != Perquery::Absent, &database);
        let pid = application.child.id();
        cpus.pin(pid);
        if !options.keep_priority {
            cpus::raise_priority(pid);
        }
        let path = self.files.path().join(format!("{}.pq", self.sides.len()));
        match what {
            Perquery::Absent | Perquery::Off => {}
            Perquery::On(variants) => {
                self._recorders.push(Recorder::start(pid, variants, path, cpus)?);
            }
            Perquery::OffAfter(variants) => {
                let mut recorder = Recorder::start(pid, variants, path, cpus)?;
                application.burst(0, 1000);
                recorder.end();
            }
        }
        self.sides.push(Side { setting: name.to_owned(), connection: Box::new(application) });
        Ok(())
    }
}
