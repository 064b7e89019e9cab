//! A MariaDB server of the test's own: fresh data directory, unusual port, own socket, stopped on drop.

use crate::certificates::{self, Certificates};
use crate::perquery;
use crate::process::{Ended, Process, run, signal_pid};
use crate::scratch::{self, output_of};
use crate::{artifacts, proc};
use mysql::prelude::Queryable;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The programs without which no test here can run.
pub const PROGRAMS: [&str; 2] = ["mariadbd", "mariadb-install-db"];
/// The user that clients log in as.
pub const USER: &str = "shop";
/// Its password.
pub const PASSWORD: &str = "open-sesame-4711";
/// The database they work in.
pub const DATABASE: &str = "shopdb";

/// How the library comes into the server.
#[derive(Clone, Debug, Default)]
pub enum Launch {
    /// Not at all.
    Plain,
    /// By LD_PRELOAD, capture off.
    #[default]
    Preloaded,
    /// By `perquery run -o` this file.
    Run(PathBuf),
}

/// What differs from test to test.
#[derive(Default)]
pub struct Options {
    /// How the library comes into it.
    pub launch: Launch,
    /// Further options of the server.
    pub arguments: Vec<String>,
    /// Start it with a certificate.
    pub tls: bool,
    /// Another program than the mariadbd of the PATH.
    pub program: Option<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, &'static str)>,
}

/// A running server.
pub struct MariaDb {
    process: Process,
    /// Its directory: `data`, `socket`, `error.log`, certificates.
    pub directory: TempDir,
    /// Its TCP port on 127.0.0.1.
    pub port: u16,
    /// The process id of mariadbd itself.
    pub pid: u32,
    /// The certificates it was started with.
    pub certificates: Option<Certificates>,
}

impl MariaDb {
    /// Makes a data directory (half a second: not worth a cache) and starts the server; ready when this returns, with
    /// [`USER`] and [`DATABASE`] in it.
    #[track_caller]
    pub fn start(options: &Options) -> Self {
        let directory = scratch::directory("mariadb");
        let user = if scratch::is_root() { "--user=root".to_owned() } else { String::new() };
        let data = format!("--datadir={}", directory.path().join("data").display());
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data]);
        install.arg("--innodb-log-file-size=8M").args(user.split_terminator(' '));
        // Two servers that share a directory for temporary tables delete each other's.
        output_of(perquery::scrub(&mut install).env("TMPDIR", directory.path()));
        let certificates = options.tls.then(|| certificates::make(directory.path()));
        // A port may be taken by somebody else between our finding it and the server's binding it.
        let mut last_error = String::new();
        for _ in 0..3 {
            match Self::try_start(options, directory.path(), &data, &user, certificates.as_ref()) {
                Ok((process, port, pid)) => {
                    let server = MariaDb { process, directory, port, pid, certificates };
                    server.prepare();
                    return server;
                }
                Err(why) => last_error = why,
            }
        }
        panic!("mariadbd does not start: {last_error}");
    }

    fn try_start(
        options: &Options,
        directory: &Path,
        data: &str,
        user: &str,
        certificates: Option<&Certificates>,
    ) -> Result<(Process, u16, u32), String> {
        let port = scratch::free_port();
        let pid_file = directory.join("pid");
        let _ = std::fs::remove_file(&pid_file);
        let program = options.program.as_deref().unwrap_or(Path::new("mariadbd"));
        let mut command = match &options.launch {
            Launch::Plain | Launch::Preloaded => Command::new(program),
            Launch::Run(recording) => {
                let mut run = perquery::run_command(recording);
                run.arg(program);
                run
            }
        };
        perquery::scrub(&mut command).env("TMPDIR", directory).envs(options.environment.iter().copied());
        if matches!(options.launch, Launch::Preloaded) {
            command.env("LD_PRELOAD", artifacts::library());
        }
        command.args(["--no-defaults", data, "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.args(["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M", "--max-connections=600"]);
        // Durability is not what is tested; the time of the disk would only add noise.
        command.args(["--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"]);
        command.args(user.split_terminator(' ')).arg(format!("--port={port}"));
        command.arg(format!("--socket={}", directory.join("socket").display()));
        command.arg(format!("--pid-file={}", pid_file.display()));
        if let Some(tls) = certificates {
            command.arg(format!("--ssl-ca={}", tls.authority.display()));
            command.arg(format!("--ssl-cert={}", tls.certificate.display()));
            command.arg(format!("--ssl-key={}", tls.key.display()));
        }
        command.args(&options.arguments);
        let mut process = Process::start(&mut command);
        let started = Instant::now();
        let root = mysql::OptsBuilder::new()
            .socket(Some(directory.join("socket").to_string_lossy()))
            .user(Some("root"));
        loop {
            if !process.is_running() {
                return Err(process.stderr());
            }
            if pid_file.exists() && mysql::Conn::new(root.clone()).is_ok() {
                let text = std::fs::read_to_string(&pid_file).map_err(|e| e.to_string())?;
                let pid = text.trim().parse().map_err(|_| format!("pid file says {text:?}"))?;
                return Ok((process, port, pid));
            }
            if started.elapsed() > Duration::from_secs(60) {
                return Err(format!("not ready after 60 s: {}", process.stderr()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn prepare(&self) {
        let mut root = self.root();
        for statement in [
            format!("CREATE DATABASE {DATABASE}"),
            format!("CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'"),
            format!("GRANT ALL ON *.* TO {USER}@'%'"),
        ] {
            root.query_drop(statement).expect("a fresh server takes them");
        }
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// A session of the administrator, over the socket, without a database.
    #[track_caller]
    pub fn root(&self) -> mysql::Conn {
        let options =
            mysql::OptsBuilder::new().socket(Some(self.socket().to_string_lossy())).user(Some("root"));
        mysql::Conn::new(options).expect("the server takes root")
    }

    /// How a client of [`USER`] logs in over TCP.
    pub fn client_options(&self) -> mysql::OptsBuilder {
        mysql::OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(self.port)
            // The crate moves to the unix socket by itself else.
            .prefer_socket(false)
            .user(Some(USER))
            .pass(Some(PASSWORD))
            .db_name(Some(DATABASE))
    }

    /// A session of [`USER`] in [`DATABASE`] over TCP.
    #[track_caller]
    pub fn client(&self) -> mysql::Conn {
        mysql::Conn::new(self.client_options()).expect("the server takes its user")
    }

    /// Runs statements in the administrator's shell.
    #[track_caller]
    pub fn shell(&self, statements: &str) -> String {
        let mut shell = Command::new("mariadb");
        shell.arg("--no-defaults").arg(format!("--socket={}", self.socket().display()));
        output_of(perquery::scrub(&mut shell).args(["-u", "root", "-N", "-e", statements]))
    }

    /// Stops it as an administrator does, and waits for its end. What ended is `perquery run` where that started it.
    #[track_caller]
    pub fn stop(mut self) -> Ended {
        signal_pid(self.pid, Signal::TERM);
        self.process.wait(Duration::from_secs(60))
    }

    /// Waits for the end of what the test started, without asking for it.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        self.process.wait(Duration::from_secs(60))
    }

    /// Kills it at once, and waits for the end of what the test started (`perquery run`, if that did).
    #[track_caller]
    pub fn kill(mut self) -> Ended {
        signal_pid(self.pid, Signal::KILL);
        self.process.wait(Duration::from_secs(60))
    }

    /// Sends a signal to what the test started: `perquery run`, or the server.
    pub fn signal_launcher(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Does it still run?
    pub fn is_alive(&self) -> bool {
        proc::is_alive(self.pid)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // `perquery run` may have put the server into another process group than its own.
        if proc::is_alive(self.pid) && proc::command_line(self.pid).contains("mariadbd") {
            signal_pid(self.pid, Signal::KILL);
        }
    }
}

/// Which driver sysbench takes and how it reaches the server.
pub enum Reach {
    /// TCP.
    Tcp,
    /// The unix socket.
    Socket,
    /// TCP with TLS.
    Tls,
}

/// A sysbench command against this server's [`DATABASE`], to which options and verb are to be added.
pub fn sysbench(server: &MariaDb, reach: &Reach) -> Command {
    let mut command = Command::new("sysbench");
    perquery::scrub(&mut command).arg("oltp_read_write").current_dir(server.directory.path());
    command.args([
        "--db-driver=mysql",
        "--tables=1",
        "--table-size=10000",
        "--time=0",
        "--rand-type=uniform",
    ]);
    command.args([format!("--mysql-user={USER}"), format!("--mysql-password={PASSWORD}")]);
    command.arg(format!("--mysql-db={DATABASE}"));
    match reach {
        Reach::Socket => command.arg(format!("--mysql-socket={}", server.socket().display())),
        _ => command.args(["--mysql-host=127.0.0.1".to_owned(), format!("--mysql-port={}", server.port)]),
    };
    if matches!(reach, Reach::Tls) {
        command.arg("--mysql-ssl=on");
    }
    command
}

/// Runs sysbench to its end and answers what it printed.
#[track_caller]
pub fn run_sysbench(command: &mut Command) -> String {
    run(command, Duration::from_secs(120)).expect_success().stdout.clone()
}
