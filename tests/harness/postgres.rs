//! A PostgreSQL server of the test's own: fresh cluster, unusual port, own socket directory, run as a user that is not
//! root (the server insists), stopped on drop.

use crate::certificates;
use crate::perquery;
use crate::process::{Ended, Process, as_user, run, signal_pid};
use crate::scratch::{self, User, output_of};
use crate::{artifacts, proc};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub use crate::mariadb::Launch;

/// The server's administrator, of the same name as the user it runs as in Debian.
pub const USER: &str = "postgres";
/// The database that tests work in.
pub const DATABASE: &str = "shopdb";

/// Where the server's programs are: the newest version that is installed.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/postgres").exists().then(|| (version, path.join("bin")))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

/// Why no test here can run on this machine, if so.
pub fn unavailable() -> Option<String> {
    if programs().is_none() {
        return Some("PostgreSQL is not installed below /usr/lib/postgresql".to_owned());
    }
    if scratch::is_root() && scratch::user(USER).is_none() {
        return Some("there is no user postgres to run the server as".to_owned());
    }
    None
}

/// What differs from test to test.
#[derive(Default)]
pub struct Options {
    /// How the library comes into it.
    pub launch: Launch,
    /// Further `-c name=value` settings.
    pub settings: Vec<String>,
    /// Start it with a certificate.
    pub tls: bool,
    /// Load pg_stat_statements.
    pub statistics: bool,
}

/// A running server.
pub struct Postgres {
    process: Process,
    /// Its directory: `data`, the socket, certificates.
    pub directory: TempDir,
    /// Its port on 127.0.0.1, also part of the socket's name.
    pub port: u16,
    /// The postmaster.
    pub pid: u32,
    owner: Option<User>,
}

impl Postgres {
    /// Makes a cluster (half a second: not worth a cache) and starts it; ready when this returns, with [`DATABASE`].
    #[track_caller]
    pub fn start(options: &Options) -> Self {
        let bin = programs().expect("asked before");
        let directory = scratch::directory("postgres");
        let owner = scratch::is_root().then(|| scratch::user(USER).expect("asked before"));
        if let Some(user) = owner {
            scratch::give_to(directory.path(), user);
        }
        let data = directory.path().join("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb
            .args(["--no-sync", "--no-instructions", "-A", "trust", "-E", "UTF8", "-U", USER, "-D"])
            .arg(&data);
        output_of(as_user(perquery::scrub(&mut initdb).current_dir("/"), owner));
        if options.tls {
            let files = certificates::make(directory.path());
            // The server refuses a key that others may read.
            for (from, to) in [(&files.certificate, "server.crt"), (&files.key, "server.key")] {
                let to = data.join(to);
                std::fs::copy(from, &to).expect("own directory");
                std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                    .expect("own file");
                if let Some(user) = owner {
                    scratch::give_to(&to, user);
                }
            }
        }
        let mut last_error = String::new();
        for _ in 0..3 {
            match Self::try_start(options, &bin, directory.path(), owner) {
                Ok((process, port, pid)) => {
                    let server = Postgres { process, directory, port, pid, owner };
                    server
                        .client_of("postgres")
                        .batch_execute(&format!("CREATE DATABASE {DATABASE}"))
                        .expect("fresh");
                    if options.statistics {
                        server
                            .client()
                            .batch_execute("CREATE EXTENSION pg_stat_statements")
                            .expect("contrib");
                    }
                    return server;
                }
                Err(why) => last_error = why,
            }
        }
        panic!("postgres does not start: {last_error}");
    }

    fn try_start(
        options: &Options,
        bin: &Path,
        directory: &Path,
        owner: Option<User>,
    ) -> Result<(Process, u16, u32), String> {
        let port = scratch::free_port();
        let data = directory.join("data");
        let mut command = match &options.launch {
            Launch::Plain | Launch::Preloaded => Command::new(bin.join("postgres")),
            Launch::Run(recording) => {
                let mut run = perquery::run_command(recording);
                run.arg(bin.join("postgres"));
                run
            }
        };
        perquery::scrub(&mut command).current_dir("/");
        if matches!(options.launch, Launch::Preloaded) {
            command.env("LD_PRELOAD", artifacts::library());
        }
        command.arg("-D").arg(&data).arg("-p").arg(port.to_string()).arg("-k").arg(directory);
        let mut set = |setting: &str| {
            command.arg("-c").arg(setting);
        };
        // Durability is not what is tested; the time of the disk would only add noise.
        for setting in
            ["fsync=off", "listen_addresses=127.0.0.1", "shared_buffers=64MB", "max_connections=600"]
        {
            set(setting);
        }
        if options.statistics {
            set("shared_preload_libraries=pg_stat_statements");
            set("pg_stat_statements.track_utility=on");
        }
        if options.tls {
            set("ssl=on");
        }
        options.settings.iter().for_each(|setting| set(setting));
        let mut process = Process::start(as_user(&mut command, owner));
        let started = Instant::now();
        loop {
            if !process.is_running() {
                return Err(process.stderr());
            }
            if connect(port, "postgres").is_ok() {
                let text = std::fs::read_to_string(data.join("postmaster.pid")).map_err(|e| e.to_string())?;
                let first = text.lines().next().unwrap_or_default();
                let pid = first.parse().map_err(|_| format!("postmaster.pid says {text:?}"))?;
                return Ok((process, port, pid));
            }
            if started.elapsed() > Duration::from_secs(60) {
                return Err(format!("not ready after 60 s: {}", process.stderr()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A session in a database, over TCP.
    #[track_caller]
    pub fn client_of(&self, database: &str) -> postgres::Client {
        connect(self.port, database).expect("the server takes its administrator")
    }

    /// A session in [`DATABASE`], over TCP.
    #[track_caller]
    pub fn client(&self) -> postgres::Client {
        self.client_of(DATABASE)
    }

    /// One of the server's own client programs (psql, pgbench), pointed at [`DATABASE`] by the environment; over the
    /// unix socket when asked.
    pub fn tool(&self, name: &str, socket: bool) -> Command {
        let mut command = Command::new(programs().expect("asked before").join(name));
        perquery::scrub(&mut command);
        self.point_at(&mut command, socket);
        command
    }

    /// Sets the environment that libpq reads its target from.
    pub fn point_at(&self, command: &mut Command, socket: bool) {
        let host = if socket { self.directory.path().display().to_string() } else { "127.0.0.1".to_owned() };
        command.env("PGHOST", host).env("PGPORT", self.port.to_string()).env("PGUSER", USER);
        command.env("PGDATABASE", DATABASE).env("PGSSLMODE", "disable").current_dir("/");
    }

    /// Runs one of its tools to its end.
    #[track_caller]
    pub fn run_tool(&self, command: &mut Command) -> Ended {
        let ended = run(command, Duration::from_secs(120));
        ended.expect_success();
        ended
    }

    /// The user the server runs as, where that is not us.
    pub fn owner(&self) -> Option<User> {
        self.owner
    }

    /// Stops it ("fast": sessions are cut), and waits for its end. What ended is `perquery run` where that started it.
    #[track_caller]
    pub fn stop(mut self) -> Ended {
        signal_pid(self.pid, Signal::INT);
        self.process.wait(Duration::from_secs(60))
    }

    /// Waits for the end of what the test started, without asking for it.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        self.process.wait(Duration::from_secs(60))
    }

    /// Sends a signal to what the test started: `perquery run`, or the postmaster.
    pub fn signal_launcher(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills the postmaster and all backends at once.
    #[track_caller]
    pub fn kill(mut self) -> Ended {
        let backends = proc::children(self.pid);
        signal_pid(self.pid, Signal::KILL);
        backends.into_iter().for_each(|pid| signal_pid(pid, Signal::KILL));
        self.process.wait(Duration::from_secs(60))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if proc::is_alive(self.pid) && proc::command_line(self.pid).contains("postgres") {
            // Immediate shutdown: backends end by themselves, shared memory is given back.
            signal_pid(self.pid, Signal::QUIT);
            let started = Instant::now();
            while proc::is_alive(self.pid) && started.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn connect(port: u16, database: &str) -> Result<postgres::Client, postgres::Error> {
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(port).user(USER).dbname(database).application_name("perquery-tests");
    config.connect(postgres::NoTls)
}
