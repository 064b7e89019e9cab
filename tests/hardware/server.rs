//! A server inside the guest, on data that the host prepared, with one session whose thread is known.

use harness::process::{Process, as_user};
use harness::scratch::user;
use harness::wait::{SOON, wait_until};
use harness::wire::{MySql, Postgres, Wire};
use harness::{artifacts, perquery, proc};
use rustix::process::Signal;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

/// Where the host put the data directories, by the servers' names.
const DATA: &str = "/servers";
/// The user of the guest that PostgreSQL runs as: it refuses root.
const USER: &str = "server";
/// A point select, as text.
pub const POINT_SELECT: &str = "SELECT c FROM price WHERE id = 500";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MariaDB, a thread for each session.
    MariaDb,
    /// PostgreSQL, a process for each session.
    Postgres,
}

impl Kind {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MariaDb => "MariaDB",
            Kind::Postgres => "PostgreSQL",
        }
    }

    /// Where `perquery stat` finds it.
    pub fn url(self) -> &'static str {
        match self {
            Kind::MariaDb => "mysql://root@localhost/test?socket=/tmp/mariadb.sock",
            Kind::Postgres => "postgres://postgres@/postgres?host=/tmp",
        }
    }

    fn socket(self) -> &'static Path {
        Path::new(match self {
            Kind::MariaDb => "/tmp/mariadb.sock",
            Kind::Postgres => "/tmp/.s.PGSQL.5432",
        })
    }

    /// The server's command; what would run beside the session is switched off.
    fn command(self) -> Command {
        let mut command;
        match self {
            Kind::MariaDb => {
                command = Command::new("mariadbd");
                command.args(["--no-defaults", "--user=root", "--skip-networking", "--skip-log-bin"]);
                command.arg(format!("--datadir={DATA}/mariadb")).arg("--socket=/tmp/mariadb.sock");
                command.args(["--innodb-buffer-pool-size=16M", "--innodb-use-native-aio=0"]);
                command.args(["--innodb-stats-auto-recalc=0", "--innodb-flush-log-at-trx-commit=0"]);
            }
            Kind::Postgres => {
                let data = format!("{DATA}/postgres");
                // The host's owner of the files is nobody here.
                let give = Command::new("chown").args(["-R", USER, &data]).status();
                assert!(give.is_ok_and(|status| status.success()), "{data}");
                command = Command::new("/usr/lib/postgresql/15/bin/postgres");
                command.args(["-D", &data, "-c", "listen_addresses=", "-c", "unix_socket_directories=/tmp"]);
                command.args(["-c", "autovacuum=off", "-c", "jit=off", "-c", "shared_buffers=16MB"]);
                as_user(&mut command, user(USER));
            }
        }
        command
    }

    fn connect(self) -> Box<dyn Wire> {
        match self {
            Kind::MariaDb => Box::new(MySql::connect(self.socket(), "test")),
            Kind::Postgres => Box::new(Postgres::connect(self.socket(), "postgres", "postgres")),
        }
    }
}

/// A running server and a session in it.
pub struct Server {
    kind: Kind,
    process: Process,
    session: Box<dyn Wire>,
    /// The session's thread.
    pub thread: u32,
}

impl Server {
    /// Starts it, with the library or without; its session has run some point selects when this returns.
    pub fn start(kind: Kind, loaded: bool) -> Self {
        let mut command = kind.command();
        perquery::scrub(&mut command);
        if loaded {
            command.env("LD_PRELOAD", artifacts::library());
        }
        let _ = std::fs::remove_file(kind.socket());
        let mut process = Process::start(&mut command);
        wait_until("the server to take sessions", SOON, || {
            assert!(process.is_running(), "{}", process.stderr());
            // PostgreSQL listens a moment before.
            let ready = kind == Kind::MariaDb || process.stderr().contains("ready to accept connections");
            ready && UnixStream::connect(kind.socket()).is_ok()
        });
        let mut session = kind.connect();
        let before = cpu_ns(process.pid());
        (0..100).for_each(|_| session.run(POINT_SELECT));
        let thread = busiest(&before, &cpu_ns(process.pid()));
        Server { kind, process, session, thread }
    }

    /// The server's process; of PostgreSQL the postmaster.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Runs a statement so many times. The session's thread sleeps when this returns: the client has its answer a moment
    /// before.
    pub fn run(&mut self, statement: &str, executions: usize) {
        (0..executions).for_each(|_| self.session.run(statement));
        let stat = format!("/proc/{}/stat", self.thread);
        wait_until("the session's thread to sleep", SOON, || {
            let text = std::fs::read_to_string(&stat).expect("the thread lives");
            text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
        });
    }

    /// Ends it as an administrator does.
    pub fn stop(mut self) {
        // PostgreSQL's "fast" way: it does not wait for its sessions.
        let signal = if self.kind == Kind::Postgres { Signal::INT } else { Signal::TERM };
        self.process.signal(signal);
        self.process.wait(SOON).expect_success();
    }
}

/// The CPU time of all threads of a process and its children, by thread.
fn cpu_ns(pid: u32) -> Vec<(u32, u64)> {
    let of = |tid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{tid}/schedstat")).unwrap_or_default();
        (tid, text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0))
    };
    let processes = std::iter::once(pid).chain(proc::children(pid));
    processes.flat_map(proc::threads).map(of).collect()
}

/// The thread that worked most in between.
fn busiest(before: &[(u32, u64)], after: &[(u32, u64)]) -> u32 {
    let spent = |(tid, now): &(u32, u64)| {
        let then = before.iter().find(|(thread, _)| thread == tid).map_or(0, |(_, ns)| *ns);
        now.saturating_sub(then)
    };
    after.iter().max_by_key(|entry| spent(entry)).expect("the server has threads").0
}
